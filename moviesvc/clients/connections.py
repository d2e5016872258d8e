"""How is a client disconnected that does not read? By its socket, found without the web server.

The server has a time-out for request heads but none for what it sends, and does not report when a
file is sent. So its sockets are found among this process's open files: once at the start, and once
a second while large files are being sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Collection, Iterator

#: Identifies a connection: the port on this side, and `host:port` of the client.
Ends = tuple[int, str]


def limit_unread_writes(seconds: float) -> None:
    """Let the kernel close connections whose client reads nothing for this long.

    Set on the listening sockets, from which accepted ones inherit it. Linux only; elsewhere such a
    client keeps its connection, but never a thread.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for found in _sockets():
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                milliseconds = int(seconds * 1000)
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def ends_of(server: str, client: str) -> Ends:
    """Return the key of a connection, from two addresses of the form `host:port`.

    The server's host is left out: a server that listens on all addresses reports `0.0.0.0`.
    """
    return int(server.rpartition(":")[2]), client


def open_ends() -> set[Ends]:
    """Return the keys of all connections of this process."""
    return {ends for _, ends in _connections()}


def hang_up(ended: Collection[Ends]) -> None:
    """Close these connections, as far as they still exist."""
    for found, ends in _connections() if ended else ():
        if ends in ended:
            with contextlib.suppress(OSError):  # it has just been closed
                found.shutdown(socket.SHUT_RDWR)


def _connections() -> Iterator[tuple[socket.socket, Ends]]:
    for found in _sockets():
        try:
            port, (host, peer_port) = found.getsockname()[1], found.getpeername()[:2]
        except OSError:  # a listening socket, or one that was just closed
            continue
        yield found, (port, f"[{host}]:{peer_port}" if ":" in host else f"{host}:{peer_port}")


def _sockets() -> Iterator[socket.socket]:
    """Yield copies of this process's TCP sockets; each is closed after its use."""
    for name in os.listdir("/dev/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:  # closed meanwhile, like the descriptor of the listing itself
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6):
                yield found
