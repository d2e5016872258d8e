"""How is a client cut off that does not read? By its socket, which the web server keeps to itself.

The server has a deadline for heads but none for what it sends, and does not say when it has sent a
file. So its sockets are looked up among the open files of this process: at the start, and then
once a second while larger files are sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Collection, Iterator

#: What a connection is known by: the port on this side, and `host:port` on the other.
Ends = tuple[int, str]


def limit_unread_writes(seconds: float) -> None:
    """Have the kernel close connections whose client takes nothing of what waits for so long.

    Set on the sockets that listen: those that they accept inherit it. Linux only; on other systems
    such a client keeps its connection, but never a thread.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for found in _sockets():
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                milliseconds = int(seconds * 1000)
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def ends_of(server: str, client: str) -> Ends:
    """Return what a connection is known by, from two addresses, each `host:port`.

    The server's host does not count: where it listens on all, it is told as `0.0.0.0`.
    """
    return int(server.rpartition(":")[2]), client


def open_ends() -> set[Ends]:
    """Return the ends of all connections that this process has."""
    return {ends for _, ends in _connections()}


def hang_up(ended: Collection[Ends]) -> None:
    """End these connections, as far as they are still there."""
    for found, ends in _connections() if ended else ():
        if ends in ended:
            with contextlib.suppress(OSError):  # it has just ended
                found.shutdown(socket.SHUT_RDWR)


def _connections() -> Iterator[tuple[socket.socket, Ends]]:
    for found in _sockets():
        try:
            port, (host, peer_port) = found.getsockname()[1], found.getpeername()[:2]
        except OSError:  # it listens, or has just ended
            continue
        yield found, (port, f"[{host}]:{peer_port}" if ":" in host else f"{host}:{peer_port}")


def _sockets() -> Iterator[socket.socket]:
    """Yield this process's sockets of TCP, each as a copy that is closed behind the caller."""
    for name in os.listdir("/dev/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:  # closed meanwhile, as the one of the directory itself
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6):
                yield found
