"""How is a receiver reached through a forward proxy, and whose fault is it where it is not?

The proxy is asked for a tunnel (CONNECT, or SOCKS5) to every receiver, over plain http too: it
cannot read a signed message then, and gets the address that was judged, where the form of HTTP for
proxies would send it the name to resolve again. What goes wrong before the tunnel is there is the
proxy's fault, unless the proxy says that it is the receiver's; `judge` is the table.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import re
import socket
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from webhooks_app import egress
from webhooks_app.conf import webhook_settings
from webhooks_app.log import get_logger
from webhooks_app.shown import printable
from webhooks_app.transport import dial
from webhooks_app.transport.answer import Answer
from webhooks_app.transport.failure import CONNECT_TEXTS, LookupFailedError, ProxyFault, Trace

logger = get_logger(__name__)

#: For the proxy's own look-up and connection. Less than `dial.CONNECT_SECONDS`, which ends what the
#: proxy does for a receiver.
PROXY_SECONDS = 5.0
#: For the answer to a question about itself, where it has not answered a CONNECT.
ALIVE_SECONDS = 3.0
MAX_HEAD_BYTES = 65_536
_HEAD_END = re.compile(rb"\r?\n\r?\n")
#: What stands for a receiver's address that only the proxy knows.
UNKNOWN_ADDRESS = "the proxy"

# -- the table: whose fault is it? ----------------------------------------------------------------

_SQUID_ERROR = re.compile(r"(ERR_[A-Z_]{1,40})(?: (\d{1,4}))?")
_STATUS_ERROR = re.compile(r";\s*error=\"?([a-z_]+)")
#: Errors of Proxy-Status (RFC 9209) that are about the receiver.
_STATUS_ERRORS = {
    "connection_refused": errno.ECONNREFUSED,
    "connection_terminated": errno.ECONNRESET,
    "connection_timeout": errno.ETIMEDOUT,
    "destination_ip_unroutable": errno.ENETUNREACH,
}
#: Replies of SOCKS5 (RFC 1928) that are about the receiver.
_SOCKS_REPLIES = {
    3: errno.ENETUNREACH,
    4: errno.EHOSTUNREACH,
    5: errno.ECONNREFUSED,
    6: errno.ETIMEDOUT,  # "TTL expired"
}
#: Offers no authentication, or user and password; answered before a receiver is named (RFC 1928).
_SOCKS_GREETING = bytes((5, 2, 0, 2))
_REFUSED_CREDENTIALS = 407


def judge(answer: Answer, *, is_name: bool = False) -> OSError | None:
    """Return what an http proxy's answer to CONNECT means, None where the tunnel is there.

    ``is_name``: it was asked for a name.
    """
    status = answer.status
    if status is None:
        text = "the proxy's answer is not valid HTTP; is it an http proxy?"
        return ProxyFault(text, is_down=True)
    if 200 <= status < 300:
        return None
    if status == _REFUSED_CREDENTIALS:
        text = "the proxy answered 407 to CONNECT: it does not accept the user and password"
        return ProxyFault(text, is_down=True)
    reason = answer.header("x-squid-error") or ""
    squid = _SQUID_ERROR.fullmatch(reason)
    # Squid 5 finds "no way to forward" where a name has no address.
    if squid and (squid[1] == "ERR_DNS_FAIL" or (is_name and squid[1] == "ERR_CANNOT_FORWARD")):
        return LookupFailedError("the host name could not be resolved")
    if squid and squid[1] == "ERR_CONNECT_FAIL":
        number = int(squid[2] or 0)
        if number in (0, *CONNECT_TEXTS):  # not squid's own trouble, such as no port that is free
            return OSError(number, "the proxy reached no receiver")
    told = _STATUS_ERROR.search(answer.header("proxy-status") or "")
    if told and told[1] in ("dns_error", "dns_timeout"):
        return LookupFailedError("the host name could not be resolved")
    if told and told[1] in _STATUS_ERRORS:
        return OSError(_STATUS_ERRORS[told[1]], "the proxy reached no receiver")
    more = f" ({squid[1]})" if squid else ""
    return ProxyFault(f"the proxy answered {status} to CONNECT{more}")


def judge_socks(code: int | None, text: str) -> OSError:
    """Return what a SOCKS proxy's refusal means.

    Args:
        code: of its reply, None where the exchange did not come so far.
        text: the library's words for it.
    """
    if code in _SOCKS_REPLIES:
        return OSError(_SOCKS_REPLIES[code], "the proxy reached no receiver")
    if code is not None:
        return ProxyFault(f"the proxy answered with SOCKS error {code}: {printable(text, 100)}")
    return ProxyFault(f"the proxy did not speak SOCKS5: {printable(text, 100)}", is_down=True)


# -- the tunnel -----------------------------------------------------------------------------------


async def dial_through(
    proxy: egress.Proxy,
    origin: egress.Origin,
    resolver: egress.GuardResolver,
    allowed: Callable[[str], bool],
    trace: Trace,
) -> socket.socket:
    """Return a non-blocking socket whose other end is the origin, by way of the proxy.

    As `dial.dial`: the same addresses pass the same rules, and the first to connect wins. Only a
    guarding proxy gets a name.

    Raises:
        ProxyFault: the proxy is why there is no connection.
        egress.PolicyBlocked, LookupFailedError, OSError: as `dial.dial`.
    """
    if proxy.is_guard and not origin.is_address:
        addresses: list[dial.Address] = [dial.address_of(origin.host, origin.port)]
    else:
        addresses = await dial.addresses_of(origin, resolver, trace)
    permitted = egress.address_rule(origin, allowed)
    trace.dialled_at = time.perf_counter()
    return await tunnel(proxy, addresses, permitted, trace)


async def tunnel(
    proxy: egress.Proxy,
    addresses: list[dial.Address],
    permitted: Callable[[str], bool],
    trace: Trace,
) -> socket.socket:
    """Return a tunnel to the first of the addresses that takes a connection; see `dial_through`."""
    trace.is_at_proxy = True
    reach = partial(_reach, proxy, permitted=permitted, trace=trace)
    try:
        sock = await _in_time(proxy, dial.first(addresses, reach, trace))
    except ProxyFault as fault:
        if fault.is_down:
            _note(proxy, str(fault))
        raise
    _note(proxy, "")
    return sock


async def _in_time(
    proxy: egress.Proxy, dialling: Coroutine[Any, Any, socket.socket]
) -> socket.socket:
    """Wait for a tunnel; where none comes, tell a proxy that hangs from a receiver that does."""
    try:
        async with asyncio.timeout(dial.CONNECT_SECONDS) as limit:
            return await dialling
    except TimeoutError:
        if not limit.expired() or await _is_alive(proxy):
            raise
    text = "the proxy takes connections, but answers nothing"
    raise ProxyFault(text, is_down=True)


async def _is_alive(proxy: egress.Proxy) -> bool:
    """Say whether a proxy answers a question that is for itself and names no receiver."""
    question = _SOCKS_GREETING
    if proxy.scheme == "http":
        line = f"OPTIONS * HTTP/1.1\r\nHost: {proxy.host}\r\nConnection: close\r\n\r\n"
        question = line.encode()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ALIVE_SECONDS):
            with await _connect_to(proxy) as sock:
                await loop.sock_sendall(sock, question)
                return bool(await loop.sock_recv(sock, 1))
    except OSError:  # a TimeoutError is one
        return False


async def _reach(
    proxy: egress.Proxy, address: dial.Address, *, permitted: Callable[[str], bool], trace: Trace
) -> socket.socket:
    host, port = address[4][:2]
    if _is_name(host):
        assert proxy.is_guard, "only a guarding proxy gets names"
    elif not permitted(host):
        raise egress.PolicyBlocked("the policy denies this address")
    sock = await _connect_to(proxy)
    trace.is_at_proxy = False
    trace.remote_address = UNKNOWN_ADDRESS if _is_name(host) else host
    ask = _ask_http if proxy.scheme == "http" else _ask_socks
    try:
        await ask(proxy, sock, host, port)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_name(host: str) -> bool:
    return ":" not in host and not host.rpartition(".")[2].isdigit()


async def _connect_to(proxy: egress.Proxy) -> socket.socket:
    """Return a socket that is connected to the proxy, whose address is the operator's choice."""
    own = egress.Origin("http", proxy.host, proxy.port)
    # Its own trace and resolver: what they see is not the receiver's.
    trace, resolver = Trace(), egress.GuardResolver(allowed=egress.operators_own)
    try:
        async with asyncio.timeout(PROXY_SECONDS):
            return await dial.dial(own, resolver, egress.operators_own, trace)
    except LookupFailedError:
        text = "the proxy's host name could not be resolved"
    except TimeoutError:
        text = "the proxy cannot be reached: connecting timed out"
    except OSError as error:
        reason = CONNECT_TEXTS.get(error.errno or 0, "no connection")
        text = f"the proxy cannot be reached: {reason}"
    raise ProxyFault(text, is_down=True) from None


async def _ask_http(proxy: egress.Proxy, sock: socket.socket, host: str, port: int) -> None:
    """Ask for a tunnel with CONNECT; raises what `judge` makes of the answer."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    lines.append(f"User-Agent: {webhook_settings.USER_AGENT}")
    if proxy.user:
        pair = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {pair}")
    try:
        head, rest = await _exchange(sock, "\r\n".join([*lines, "", ""]).encode())
    except OSError:
        head, rest = b"", b""
    if not head:
        raise ProxyFault("the proxy closed the connection without an answer", is_down=True)
    answer = Answer(limit=0)
    answer.feed(head)
    if error := judge(answer, is_name=_is_name(host)):
        raise error
    if rest:  # neither HTTP nor TLS begins with the server's words
        raise ProxyFault("bytes came through the proxy before the request")


async def _exchange(sock: socket.socket, request: bytes) -> tuple[bytes, bytes]:
    """Send a request; return the head of its answer and what came after it, (b"", b"") for none."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request)
    came = bytearray()
    while len(came) < MAX_HEAD_BYTES:
        data = await loop.sock_recv(sock, 4096)
        if not data:
            break
        came += data
        if end := _HEAD_END.search(came):
            return bytes(came[: end.end()]), bytes(came[end.end() :])
    return bytes(came), b""


class _Connected:
    """A connection that is there already, as python-socks takes one from a proxy before a proxy."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def connect(self, *place: Any, **named: Any) -> socket.socket:
        return self._sock


async def _ask_socks(proxy: egress.Proxy, sock: socket.socket, host: str, port: int) -> None:
    """Ask for a tunnel with SOCKS5; raises what `judge_socks` makes of the answer."""
    # Imported here: only who has such a proxy pays for it.
    import python_socks
    from python_socks.async_ import asyncio as socks

    line: Any = _Connected(sock)
    speaker = socks.Proxy(
        python_socks.ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        proxy.user or None,
        proxy.password or None,
        rdns=True,
        forward=line,
    )
    try:
        await speaker.connect(host, port, timeout=2 * dial.CONNECT_SECONDS)  # the caller's is less
    except python_socks.ProxyError as error:
        raise judge_socks(error.error_code, str(error)) from None
    except TimeoutError:
        raise
    except OSError:
        raise ProxyFault("the proxy closed the connection", is_down=True) from None
    except ValueError:  # a name in its reply is no text
        raise judge_socks(None, "its reply cannot be read") from None


# -- what an operator reads -----------------------------------------------------------------------

_down: dict[egress.Proxy, bool] = {}


def _note(proxy: egress.Proxy, reason: str) -> None:
    """Log once that a proxy does not work (``reason``), and once that it works again."""
    if _down.get(proxy, False) == bool(reason):
        return
    _down[proxy] = bool(reason)
    if reason:
        logger.error("The forward proxy does not work", proxy=str(proxy), reason=reason)
    else:
        logger.info("The forward proxy works again", proxy=str(proxy))
