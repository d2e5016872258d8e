"""What does a name server answer? A real one, over UDP, with answers that a test sets by name."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence

#: Possible in place of addresses.
ABSENT, BROKEN, SILENT = "absent", "broken", "silent"
_CODES = {ABSENT: 3, BROKEN: 2}  # NXDOMAIN, SERVFAIL
_TYPES = {1: ipaddress.IPv4Address, 28: ipaddress.IPv6Address}
Addresses = Sequence[str] | str


class Nameserver:
    """Answers A and AAAA in a thread until the process ends.

    Args:
        names: the addresses of a name, one of the three words above, or a function that is called
            for each question about A and returns either.
        default: the addresses of every other name.
    """

    def __init__(
        self,
        names: Mapping[str, Addresses | Callable[[], Addresses]],
        default: Addresses,
        place: tuple[str, int] = ("127.0.0.1", 53),
    ) -> None:
        self.names = dict(names)
        self._default = default
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(place)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            if answer := self._answer(question):
                self._socket.sendto(answer, client)

    def _answer(self, question: bytes) -> bytes:
        name, end = _name(question)
        (kind,) = struct.unpack_from("!H", question, end)
        found = self.names.get(name, self._default)
        if callable(found):
            found = found() if kind == 1 else ()
        if found == SILENT:
            return b""
        code = _CODES.get(found, 0) if isinstance(found, str) else 0
        records = [] if isinstance(found, str) else [_packed(ip, kind) for ip in found]
        records = [record for record in records if record]
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return head + question[12 : end + 4] + b"".join(records)


def _name(question: bytes) -> tuple[str, int]:
    """Return the name that is asked for and where its type begins."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def _packed(text: str, kind: int) -> bytes:
    """Return the record of an address, nothing where the question is about the other family."""
    ip = ipaddress.ip_address(text)
    if not isinstance(ip, _TYPES.get(kind, ())):
        return b""
    # Name: a pointer to the question's (byte 12); class IN; time to live 0.
    return struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(ip.packed)) + ip.packed
