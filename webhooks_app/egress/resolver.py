"""How is a name looked up without blocking the event loop? By the system, in a thread of its own.

Which of the addresses may be dialled is policy.py's part.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver as AbstractResolver
    from aiohttp.abc import ResolveResult as ResolveResult
else:
    # aiohttp needs only the methods of this class, and importing it takes a seventh of a process's
    # start time: web processes and commands only check URLs.
    AbstractResolver, ResolveResult = object, dict


class ThreadResolver(AbstractResolver):
    """The system's resolver, with one thread per look-up.

    Not in a pool: a few names whose name servers do not answer would occupy all of it.
    Not in an executor: a look-up cannot be cancelled, and at exit the interpreter waits for an
    executor's threads, which would make a stopping process exceed its grace period.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Ask ``getaddrinfo``; raises ``socket.gaierror`` as it does."""
        found: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        arguments = (found, host, port, family)
        threading.Thread(target=_look_up, args=arguments, name="webhook-dns", daemon=True).start()
        return [
            ResolveResult(
                hostname=host, host=str(sockaddr[0]), port=port, family=kind, proto=0, flags=0
            )
            for kind, _, _, _, sockaddr in await found
        ]

    async def close(self) -> None:
        """Do nothing: look-ups under way end by themselves."""


def _look_up(
    found: asyncio.Future[list[Any]], host: str, port: int, family: socket.AddressFamily
) -> None:
    answer: list[Any] | Exception
    try:
        answer = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        answer = error
    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits for the result
        found.get_loop().call_soon_threadsafe(_tell, found, answer)


def _tell(found: asyncio.Future[list[Any]], answer: list[Any] | Exception) -> None:
    if found.cancelled():
        return
    if isinstance(answer, Exception):
        found.set_exception(answer)
    else:
        found.set_result(answer)
