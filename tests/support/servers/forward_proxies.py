"""How does a test run a forward proxy? Debian's squid, microsocks and Dante, nearly as installed.

Only the ports, the users and where files lie differ from Debian's configuration. Each can be
stopped and started again on its port.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.servers.programs import program
from tests.support.waiting import wait_until

USER, PASSWORD = "movies", "p@ss:word/1"
#: The same in a URL.
CREDENTIALS = "movies:p%40ss%3Aword%2F1"
_DEBIAN = Path("/etc/squid/squid.conf")
_BASIC = Path("/usr/lib/squid/basic_ncsa_auth")

_SQUID = """
http_port 127.0.0.1:{port}
pid_filename none
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
netdb_filename none
pinger_enable off
max_filedescriptors 1024
shutdown_lifetime 0 seconds
hosts_file {folder}/hosts
{own}
"""
_AUTH = """
auth_param basic program {basic} {folder}/users
acl known proxy_auth REQUIRED
http_access deny !known
"""
_DANTE = """
logoutput: {folder}/danted.log
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: none
clientmethod: none
client pass {{ from: 127.0.0.1/32 to: 0.0.0.0/0 }}
{own}
socks pass {{ from: 127.0.0.1/32 to: 0.0.0.0/0 }}
"""


class ForwardProxy:
    """A proxy on 127.0.0.1; ``port`` stays the same over `stop` and `start`."""

    def __init__(self, command: Sequence[str], port: int, folder: Path, scheme: str) -> None:
        self.port = port
        self._command, self._folder, self._scheme = command, folder, scheme
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, credentials: str = "") -> str:
        """Return the proxy as a setting names it."""
        at = f"{credentials}@" if credentials else ""
        return f"{self._scheme}://{at}127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self._folder / "output").open("ab") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        wait_until(self._listens, timeout=30, message=self.log)

    def stop(self) -> None:
        """Kill it: its connections break."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        """Return the end of what it wrote."""
        logs = [*sorted(self._folder.glob("*.log")), self._folder / "output"]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs if path.exists())

    def asked_for(self) -> list[str]:
        """Return the places that squid was asked to connect to, in order."""
        log = self._folder / "access.log"
        return re.findall(r" CONNECT (\S+) ", log.read_text()) if log.exists() else []


@contextmanager
def squid(
    ports: Sequence[int] = (), *, own: str = "", has_users: bool = False, hosts: Mapping[str, str]
) -> Iterator[ForwardProxy]:
    """Run squid with Debian's configuration until the end of the block.

    Args:
        ports: to which CONNECT is allowed besides 443, as an operator adds them.
        own: lines before Debian's rules.
        has_users: it wants USER and PASSWORD.
        hosts: the addresses of names as squid sees them.
    """
    path = program("squid")
    if not _DEBIAN.exists() or not _BASIC.exists():
        pytest.skip("this squid is not Debian's")
    with _folder() as folder:
        port = free_port()
        own += "".join(f"\nacl SSL_ports port {each}" for each in ports)
        if has_users:
            own += _AUTH.format(basic=_BASIC, folder=folder)
            openssl = [program("openssl"), "passwd", "-apr1", PASSWORD]
            hashed = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout
            (folder / "users").write_text(f"{USER}:{hashed}")
        debian = re.sub(r"(?m)^(http_port|coredump_dir)\b.*$", "", _DEBIAN.read_text())
        text = _SQUID.format(port=port, folder=folder, own=own) + debian
        (folder / "squid.conf").write_text(text)
        lines = "".join(f"{address} {name}\n" for name, address in hosts.items())
        (folder / "hosts").write_text(lines)
        command = [*_as_somebody(folder), path, "-N", "-f", str(folder / "squid.conf")]
        yield from _running(ForwardProxy(command, port, folder, "http"))


@contextmanager
def microsocks(*, has_users: bool = False) -> Iterator[ForwardProxy]:
    """Run microsocks until the end of the block; with ``has_users`` it wants USER and PASSWORD."""
    path, port = program("microsocks"), free_port()
    users = ["-u", USER, "-P", PASSWORD] if has_users else []
    with _folder() as folder:
        command = [path, "-i", "127.0.0.1", "-p", str(port), *users]
        yield from _running(ForwardProxy(command, port, folder, "socks5"))


@contextmanager
def dante(own: str = "") -> Iterator[ForwardProxy]:
    """Run Dante until the end of the block, with rules of one's own before those that let pass."""
    path, port = program("danted"), free_port()
    with _folder() as folder:
        (folder / "danted.conf").write_text(_DANTE.format(folder=folder, port=port, own=own))
        command = [*_as_somebody(folder), path, "-f", str(folder / "danted.conf")]
        yield from _running(ForwardProxy(command, port, folder, "socks5"))


def _running(proxy: ForwardProxy) -> Iterator[ForwardProxy]:
    with contextlib.ExitStack() as stack:
        stack.callback(proxy.stop)
        proxy.start()
        yield proxy


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fwd-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_somebody(folder: Path) -> list[str]:
    """Return a command prefix for another user than root, whose files are in the folder."""
    if os.geteuid() != 0:
        return []
    owner = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
