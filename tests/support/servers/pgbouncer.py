"""How does a test put PgBouncer in front of a PostgreSQL? In transaction mode, as Debian's.

Only the address, the log-in and the pool differ from Debian's configuration: so it refuses
start-up parameters that it does not know, as an operator's PgBouncer does.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.support.ports import free_port
from tests.support.servers.postgres import PASSWORD, ROLE, Postgres
from tests.support.servers.programs import program
from tests.support.waiting import wait_until

_SETTINGS = """
[databases]
* = host={folder} port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
max_client_conn = 100
default_pool_size = 20
logfile = {log}
pidfile =
{more}
"""


class PgBouncer:
    """A pool of connections to a server; `url` is what the service is given."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def url(self, database: str = ROLE) -> str:
        """Return the address of a database through the pool."""
        password = urllib.parse.quote(PASSWORD, safe="")
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{database}"

    def log(self) -> str:
        """Return the end of what PgBouncer says."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""


@contextmanager
def in_front_of(server: Postgres, **settings: str) -> Iterator[PgBouncer]:
    """Run PgBouncer before a server until the end of the block."""
    path = program("pgbouncer")
    with tempfile.TemporaryDirectory(prefix="pgb-") as name:
        folder, port = Path(name), free_port()
        pool = PgBouncer(port, folder / "pgbouncer.log")
        (folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        text = _SETTINGS.format(
            folder=server.folder,
            server_port=server.port,
            port=port,
            users=folder / "users.txt",
            log=folder / "pgbouncer.log",
            more="\n".join(f"{name} = {value}" for name, value in settings.items()),
        )
        (folder / "pgbouncer.ini").write_text(text)
        command = [*_as_somebody(folder), "--pdeathsig", "INT", path, str(folder / "pgbouncer.ini")]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_until(lambda: _lets_in(pool), timeout=30, message=pool.log)
                yield pool
            finally:
                process.terminate()


def _as_somebody(folder: Path) -> list[str]:
    """Return a command prefix for another user than root, as which PgBouncer refuses to run."""
    if os.geteuid() != 0:
        return ["setpriv"]
    owner = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]


def _lets_in(pool: PgBouncer) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(pool.url("postgres"), connect_timeout=5).close()
        return True
    return False
