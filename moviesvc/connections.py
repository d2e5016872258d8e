"""How is a client cut off that does not read? By its socket, which the web server keeps to itself.

The server has a deadline for heads but none for what it sends. So its sockets are looked up among
the open files of this process: seldom, once at the start and then only for a client to be cut off.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator


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


def hang_up(server: str, client: str) -> None:
    """End the connection between two addresses, each `host:port`, if it is still there."""
    for found in _sockets():
        try:
            ends = _text(found.getsockname()), _text(found.getpeername())
            if ends == (server, client):
                found.shutdown(socket.SHUT_RDWR)
        except OSError:  # it listens, or has just ended
            continue


def _text(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
