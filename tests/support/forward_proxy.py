"""How does a forward proxy behave that a test scripts? It tunnels, or answers CONNECT otherwise.

Real ones are in tests.support.servers.forward_proxies.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Self

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ForwardProxy:
    """An http proxy on 127.0.0.1, in threads; a context manager.

    Args:
        script: the answers to CONNECT, one after the other; an empty one closes the connection.
            Where it is used up, there is a tunnel.
        hosts: the address behind each host that it is asked for; others stand for themselves.
        waits_for: what begins with this is never answered; anything else but CONNECT gets a 400.
    """

    def __init__(
        self,
        script: Sequence[bytes] = (),
        *,
        port: int = 0,
        hosts: Mapping[str, str] | None = None,
        waits_for: str | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self._script, self._hosts = list(script), dict(hosts or {})
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._waits_for = waits_for
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        """The proxy as a setting names it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                self._open.append(client)
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (data := client.recv(4096)):
                    return
                head += data
            self.heads.append(head.decode())
            if self._waits_for is not None and head.decode().startswith(self._waits_for):
                return
            if not head.startswith(b"CONNECT "):
                client.sendall(b"HTTP/1.1 400 No\r\n\r\n")
                return
            self.asked.append(head.split()[1].decode())
            if self._script:
                client.sendall(self._script.pop(0))
                client.shutdown(socket.SHUT_RDWR)
                return
            host, _, port = self.asked[-1].rpartition(":")
            target = socket.create_connection((self._hosts.get(host, host.strip("[]")), int(port)))
            self._open.append(target)
            client.sendall(ESTABLISHED)
            back = threading.Thread(target=_copy, args=[target, client], daemon=True)
            back.start()
            _copy(client, target)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
