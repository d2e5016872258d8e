"""How is a receiver reached: which of its permitted addresses takes a TCP connection?"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from webhooks_app import egress
from webhooks_app.failure import LookupFailedError, Trace

CONNECT_SECONDS = 10.0


async def dial(
    origin: egress.Origin,
    resolver: egress.GuardResolver,
    allowed: Callable[[str], bool],
    trace: Trace,
) -> socket.socket:
    """Return a connected non-blocking socket to one permitted address of the origin.

    Raises:
        egress.PolicyBlocked: an address is denied.
        LookupFailedError: the name has no address.
        OSError: no address took the connection.
    """
    error: OSError | None = None
    for info in await _addresses(origin, resolver, trace):
        sock = egress.guarded_socket(info, allowed)
        sock.setblocking(False)
        trace.dialled_at = trace.dialled_at or time.perf_counter()
        trace.remote_address = info[4][0]
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, info[4])
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    assert error is not None
    raise error


async def _addresses(
    origin: egress.Origin, resolver: egress.GuardResolver, trace: Trace
) -> list[tuple[Any, ...]]:
    host, port = origin.host, origin.port
    if ":" in host or host.rpartition(".")[2].isdigit():
        return [_info(host, port)]
    trace.dns_at = time.perf_counter()
    try:
        answers = await resolver.resolve(host, port)
    except egress.PolicyBlocked:
        raise
    except OSError as error:
        raise LookupFailedError("the host name could not be resolved") from error
    trace.dns_done_at = time.perf_counter()
    return [_info(answer["host"], port) for answer in answers]


def _info(ip: str, port: int) -> tuple[Any, ...]:
    """Return an address as ``getaddrinfo`` does."""
    if ":" in ip:
        return socket.AF_INET6, socket.SOCK_STREAM, 0, "", (ip, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", (ip, port)
