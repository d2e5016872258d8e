"""How is a receiver reached: which of its permitted addresses takes a TCP connection first?"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import chain, zip_longest
from typing import Any

from webhooks_app import egress
from webhooks_app.transport.failure import LookupFailedError, ProxyFault, Trace

#: For all addresses of a receiver together.
CONNECT_SECONDS = 10.0
#: The "Connection Attempt Delay" of RFC 8305.
NEXT_ADDRESS_SECONDS = 0.25

Address = tuple[Any, ...]  # as getaddrinfo returns it
Reach = Callable[[Address], Coroutine[Any, Any, socket.socket]]


async def dial(
    origin: egress.Origin,
    resolver: egress.GuardResolver,
    allowed: Callable[[str], bool],
    trace: Trace,
) -> socket.socket:
    """Return a connected non-blocking socket to one permitted address of the origin.

    One dead address must not delay the others (RFC 8305, "Happy Eyeballs"): IPv4 and IPv6 take
    turns, the next address is tried when one fails or has not answered for NEXT_ADDRESS_SECONDS,
    and the first to connect wins. Unlike in the RFC, the look-up waits for both families: one
    denied address refuses the name, so all must be known before anything is dialled.

    Raises:
        egress.PolicyBlocked: an address is denied.
        LookupFailedError: the name has no address.
        OSError: no address took the connection; a TimeoutError where one said nothing.
    """
    addresses = await addresses_of(origin, resolver, trace)
    permitted = egress.address_rule(origin, allowed)
    trace.dialled_at = time.perf_counter()
    async with asyncio.timeout(CONNECT_SECONDS):
        return await first(addresses, partial(connect, permitted=permitted, trace=trace), trace)


async def addresses_of(
    origin: egress.Origin, resolver: egress.GuardResolver, trace: Trace
) -> list[Address]:
    """Return the addresses in the order in which they are tried: the resolver's, in turns.

    Raises:
        egress.PolicyBlocked, LookupFailedError
    """
    host, port = origin.host, origin.port
    if origin.is_address:
        return [address_of(host, port)]
    trace.dns_at = time.perf_counter()
    try:
        answers = await resolver.resolve(host, port)
    except egress.PolicyBlocked:
        raise
    except OSError as error:
        raise LookupFailedError("the host name could not be resolved") from error
    trace.dns_done_at = time.perf_counter()
    addresses = [address_of(answer["host"], port) for answer in answers]
    preferred = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    turns = chain.from_iterable(zip_longest(preferred, others))
    return [each for each in turns if each is not None]


def address_of(ip: str, port: int) -> Address:
    """Return an address in the form of ``getaddrinfo``."""
    if ":" in ip:
        return socket.AF_INET6, socket.SOCK_STREAM, 0, "", (ip, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", (ip, port)


async def connect(
    address: Address, permitted: Callable[[str], bool], trace: Trace
) -> socket.socket:
    """Return a socket connected to one address; raises as `dial`."""
    sock = egress.guarded_socket(address, permitted)
    trace.remote_address = address[4][0]
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address[4])
    except BaseException:
        sock.close()
        raise
    return sock


async def first(addresses: list[Address], reach: Reach, trace: Trace) -> socket.socket:
    """Return the first socket that ``reach`` connects to an address; all others are closed."""
    if len(addresses) == 1:
        return await reach(addresses[0])
    return await _race(addresses, reach, trace)


async def _race(addresses: list[Address], reach: Reach, trace: Trace) -> socket.socket:
    waiting = deque(addresses)
    racing: dict[asyncio.Task[socket.socket], Address] = {}
    error: BaseException | None = None
    try:
        while waiting or racing:
            if waiting:
                address = waiting.popleft()
                racing[asyncio.create_task(reach(address))] = address
            done, _ = await asyncio.wait(
                racing,
                timeout=NEXT_ADDRESS_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                address = racing.pop(task)
                failure = task.exception()
                if failure is None:
                    trace.remote_address = address[4][0]
                    return task.result()
                # A proxy that failed for one address only is not what is wrong.
                if error is None or not isinstance(failure, ProxyFault):
                    error = failure
        assert error is not None, "there is at least one address"
        raise error
    finally:
        for task in racing:
            task.add_done_callback(_close)
            task.cancel()


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket if the cancelled connect had succeeded already."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
