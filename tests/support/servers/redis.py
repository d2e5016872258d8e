"""How does a test get a Redis like an operator's? It starts Debian's.

TLS only, with a certificate of a private authority; everybody must log in, as a user of an access
list. The server may be stopped, killed, frozen, and started again with other options on the same
port. It ends with the test process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support import certificates
from tests.support.ports import free_port
from tests.support.servers.programs import program
from tests.support.waiting import wait_until

USER = "movies"
#: Every character that a URL must escape.
PASSWORD = "p@ss:w/rd ?#%"
#: Exactly the rights that `docs/operations.md` names for the service's user.
ALLOWED = ("~movies*", "~rate:*", "~workers", "+@all", "-@admin", "-@dangerous")
START_SECONDS = 20


class Server:
    """A server in a folder of its own, with a port that stays the same."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.data = folder / "data"
        self.authority = folder / "authority.pem"
        self.authority.write_bytes(certificates.authority_pem())

    def url(self, password: str = PASSWORD) -> str:
        """Return what the service is given as REDIS_URL."""
        quoted = urllib.parse.quote(password, safe="")
        query = urllib.parse.urlencode({"ssl_ca_certs": self.authority})
        return f"rediss://{USER}:{quoted}@localhost:{self.port}/0?{query}"

    def admin(self) -> redis.Redis:
        """Return a client that may do everything."""
        return redis.Redis.from_url(f"unix://admin:any@{self.folder}/admin.sock?socket_timeout=5")

    def start(
        self, *options: str, kind: str = "valid", password: str = PASSWORD, allowed: Any = ALLOWED
    ) -> None:
        """Start it and wait until it answers its administrator.

        Args:
            options: as on the command line of `redis-server`.
            kind: of its certificate (see `tests.support.certificates`).
            allowed: what the service's user may do, as rules of an access list.
        """
        self.data.mkdir(exist_ok=True)
        pem = self.folder / "server.pem"
        pem.write_bytes(certificates.server_pem(kind, "localhost"))
        command = ["setpriv", "--pdeathsig", "KILL", self.path, "--port", "0"]
        command += ["--tls-port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--tls-cert-file", str(pem), "--tls-key-file", str(pem)]
        command += ["--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no"]
        command += ["--unixsocket", str(self.folder / "admin.sock"), "--dir", str(self.data)]
        command += ["--user", "default", "off"]
        command += ["--user", "admin", "on", "nopass", "~*", "&*", "+@all"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, timeout=START_SECONDS, message=self.log)
        self.let_in(password, allowed)

    def let_in(self, password: str = PASSWORD, allowed: Any = ALLOWED) -> None:
        """Create the service's user again; nobody else may log in from outside."""
        admin = self.admin()
        admin.execute_command("ACL", "DELUSER", USER)  # also ends its connections
        admin.execute_command("ACL", "SETUSER", USER, "on", f">{password}", *allowed)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return bool(self.admin().ping())
        except redis.exceptions.BusyLoadingError:
            return True
        except redis.exceptions.RedisError:
            return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT continues it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self.process and self.process.poll() is None:
            self.send(signal.SIGKILL)
            self.process.wait(10)

    def log(self) -> str:
        """Return the end of what the server says."""
        return (self.folder / "server.log").read_text(errors="replace")[-3000:]


@contextmanager
def prepared(name: str = "redis-server") -> Iterator[Server]:
    """Return a server that does not run yet, for the length of the block."""
    path = program(name)
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    os.chmod(folder, 0o700)
    server = Server(path, folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
