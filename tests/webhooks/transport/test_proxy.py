"""Does a request go through the forward proxy as it must, and is each fault whose it is?"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
import uvloop
from django.test import override_settings

from tests.support import certificates
from tests.support.forward_proxy import ESTABLISHED, ForwardProxy
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.webhooks.egress.test_egress import PUBLIC, StubResolver
from webhooks_app.egress import Home, PolicyBlocked, Proxy, address_allowed, origin_of, read_proxy
from webhooks_app.retry import AttemptResult
from webhooks_app.transport import Transport, dial, proxy
from webhooks_app.transport.answer import Answer
from webhooks_app.transport.failure import Trace, explain
from webhooks_app.transport.wire import tls_context

OPEN = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}
STRICT = {"REQUIRE_HTTPS": False}
SECRET = "hunter2hunter2"
HOST = certificates.HOST
SOCKS = Proxy("socks5", "127.0.0.1", 1080)


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    proxy._down.clear()


@lru_cache(maxsize=1)
def trusting() -> ssl.SSLContext:
    context: ssl.SSLContext = certificates.trust(tls_context.__wrapped__())
    return context


def transport(
    url: str, resolver: Any = None, *, is_guard: bool = False, home: Home | None = None
) -> Transport:
    through = read_proxy(url, is_guard=is_guard)
    resolver = resolver or StubResolver({HOST: ["127.0.0.1"]})
    return Transport(resolver=resolver, tls=trusting(), proxy=through, home=home)


def send(url: str, *places: str, **how: Any) -> list[AttemptResult]:
    """POST to the places one after the other, through the proxy of that URL."""

    async def run() -> list[AttemptResult]:
        async with transport(url, **how) as client:
            return [await client.send(place, {}, b"{}", 5) for place in places]

    return uvloop.run(run())


def fetch(url: str, place: str, **how: Any) -> tuple[int | None, str, str]:
    async def run() -> tuple[int | None, str, str]:
        # Of a home, since its connections are at once closed with it: those of others take a moment
        # after TLS, for which `asyncio.run` does not wait.
        async with transport(url, home=Home(origin_of(place)), **how) as client:
            found = await client.fetch(place, max_bytes=100, timeout=5)
            return found.status, str(found.error_code), found.error

    return asyncio.run(run())


@contextlib.contextmanager
def slow_socks() -> Iterator[str]:
    """A SOCKS5 proxy that takes each greeting, and then waits for the receiver for ever."""
    listener, taken = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                taken.append(listener.accept()[0])
                if taken[-1].recv(100):
                    taken[-1].sendall(b"\x05\x00")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"socks5://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for sock in taken:
            sock.close()


def outcome(result: AttemptResult) -> tuple[int | None, str]:
    return result.status, str(result.error_code)


# -- the table ------------------------------------------------------------------------------------

NO_RECEIVER = [
    (503, "X-Squid-Error: ERR_CONNECT_FAIL 111", "connect", "connection refused"),
    (503, "X-Squid-Error: ERR_CONNECT_FAIL 113", "connect", "host unreachable"),
    (504, "X-Squid-Error: ERR_CONNECT_FAIL 110", "timeout", "no connection in time"),
    (503, "X-Squid-Error: ERR_DNS_FAIL 0", "dns", "the host name could not be resolved"),
    (502, "Proxy-Status: edge; error=connection_refused", "connect", "connection refused"),
    (504, 'Proxy-Status: edge; error="connection_timeout"', "timeout", "no connection in time"),
    (502, "Proxy-Status: edge; error=dns_error; x=1", "dns", "the host name could not be resolved"),
]
NO_PROXY = [
    (407, "Proxy-Authenticate: Basic", "does not accept the user and password"),
    (403, "X-Squid-Error: ERR_ACCESS_DENIED 0", "answered 403 to CONNECT (ERR_ACCESS_DENIED)"),
    (403, "Proxy-Status: edge; error=destination_ip_prohibited", "answered 403 to CONNECT"),
    (500, "X-Squid-Error: ERR_CANNOT_FORWARD 0", "answered 500 to CONNECT"),
    (503, "X-Squid-Error: ERR_CONNECT_FAIL 99", "answered 503 to CONNECT (ERR_CONNECT_FAIL)"),
    (502, "Via: x", "answered 502 to CONNECT"),
    (503, "Via: x", "answered 503 to CONNECT"),
    (302, "Location: http://portal/", "answered 302 to CONNECT"),
]


def meaning(status: int, header: str, **how: Any) -> tuple[str, str]:
    answer = Answer(limit=0)
    answer.feed(f"HTTP/1.1 {status} Said\r\n{header}\r\n\r\n".encode())
    error = proxy.judge(answer, **how)
    assert error is not None
    code, text = explain(error, Trace())
    return str(code), text


def test_what_the_proxy_says_of_the_receiver_is_the_receivers() -> None:
    """Squid's own header and RFC 9209 name the receiver's faults as clearly as a socket does."""
    told = [meaning(status, header) for status, header, _, _ in NO_RECEIVER]
    assert told == [(code, text) for _, _, code, text in NO_RECEIVER]
    # A name without an address leaves squid 5 no way to forward; an address does not need one.
    squid = (500, "X-Squid-Error: ERR_CANNOT_FORWARD 0")
    assert (meaning(*squid, is_name=True)[0], meaning(*squid)[0]) == ("dns", "proxy")


def test_what_else_the_proxy_answers_is_its_own_fault() -> None:
    """Any other status is a fault of the proxy whose text says what it answered."""
    for status, header, text in NO_PROXY:
        code, told = meaning(status, header)
        assert code == "proxy"
        assert text in told


def test_replies_of_socks() -> None:
    """The four replies about the receiver are its failures; all else is the proxy's fault."""
    codes = {code: explain(proxy.judge_socks(code, ""), Trace())[0] for code in range(1, 9)}
    assert codes == {
        **dict.fromkeys((1, 2, 7, 8), "proxy"),
        **dict.fromkeys((3, 4, 5), "connect"),
        6: "timeout",
    }
    assert explain(proxy.judge_socks(None, "No\x1b way"), Trace()) == (
        "proxy",
        "the proxy did not speak SOCKS5: No? way",
    )


async def _ask_socks(said: bytes) -> None:
    """Ask for a tunnel at a proxy that says all of this at once."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(said)
        await proxy._ask_socks(SOCKS, ours, PUBLIC, 443)


@pytest.mark.parametrize(
    "said", [b"\4\x1b", b"\5\xff", b"\5\0\5\0\0\x09", b"\5\0\5\0\0\3\1\xff\0\x50"]
)
def test_what_is_no_reply_of_socks_is_the_proxys_fault(said: bytes) -> None:
    """Also a name that is no text: whatever comes, the attempt ends with a result."""
    with pytest.raises(proxy.ProxyFault, match="did not speak SOCKS5"):
        uvloop.run(asyncio.wait_for(_ask_socks(said), 5))


# -- what goes out --------------------------------------------------------------------------------


def test_the_judged_address_goes_to_the_proxy_and_the_name_to_the_receiver() -> None:
    """CONNECT has the address, over plain http too; Host and the certificate's name are the name.

    One tunnel serves the requests that follow, and the attempt's row has the receiver's address.
    """
    with (
        Receiver() as plain,
        Receiver(tls=certificates.server_context()) as secure,
        ForwardProxy() as forward,
        override_settings(WEBHOOKS=OPEN),
    ):
        places = [f"http://{HOST}:{plain.port}/a", f"https://{HOST}:{secure.port}/b"]
        at = forward.url.replace("//", f"//movies:{SECRET}@")
        results = send(at, *places, *places)
        assert [outcome(result) for result in results] == [(200, "")] * 4
        assert forward.asked == [f"127.0.0.1:{plain.port}", f"127.0.0.1:{secure.port}"]
        assert all("Proxy-Authorization: Basic bW92aWVzO" in head for head in forward.heads)
        assert {result.remote_address for result in results} == {"127.0.0.1"}
        assert [request.headers["host"] for request in plain.requests + secure.requests] == [
            f"{HOST}:{plain.port}" if number < 2 else f"{HOST}:{secure.port}" for number in range(4)
        ]
        sent = [*plain.requests, *secure.requests]
        assert not any("proxy-authorization" in request.headers for request in sent)
        assert fetch(at, places[1])[:2] == (200, "")


def test_a_guarding_proxy_gets_names_and_no_private_literal() -> None:
    """It judges names itself, so none is looked up here; the text of a URL is checked as ever."""
    resolver = StubResolver({})
    with (
        Receiver(tls=certificates.server_context()) as receiver,
        ForwardProxy(hosts={HOST: "127.0.0.1"}) as forward,
        override_settings(WEBHOOKS=STRICT),
    ):
        place = f"https://{HOST}:{receiver.port}/hook"
        how = {"resolver": resolver, "is_guard": True}
        (result,) = send(forward.url, place, **how)
        assert (outcome(result), result.remote_address) == ((200, ""), "the proxy")
        assert fetch(forward.url, place, **how)[:2] == (200, "")
        assert (forward.asked, resolver.calls) == ([f"{HOST}:{receiver.port}"] * 2, [])
        for denied in ("https://10.0.0.5/", "https://example.com:22/", "https://a.internal/"):
            assert outcome(send(forward.url, denied, **how)[0]) == (None, "blocked_address")
            assert fetch(forward.url, denied, **how)[1] == "blocked_address"
        assert len(forward.asked) == 2


def test_a_rebinding_name_brings_no_private_address_to_the_proxy() -> None:
    """Answers that change between public and private: the proxy gets judged addresses only.

    The proxy itself is on an address that no receiver may be on.
    """

    class Flipping(StubResolver):
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> Any:
            self.answers = {host: ["10.0.0.5" if len(self.calls) % 2 else PUBLIC]}
            return await super().resolve(host, port, family)

    refused = b"HTTP/1.1 503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n"
    resolver = Flipping({})
    with ForwardProxy([refused] * 200) as forward, override_settings(WEBHOOKS=STRICT):
        results = send(forward.url, *["https://rebind.example.net/"] * 50, resolver=resolver)
        assert [result.error_code for result in results] == ["connect", "blocked_address"] * 25
        kinds = {fetch(forward.url, "https://rebind.example.net/", resolver=resolver)[1]}
        kinds |= {fetch(forward.url, "https://rebind.example.net/", resolver=resolver)[1]}
        assert kinds == {"connect", "blocked_address"}
        assert set(forward.asked) == {f"{PUBLIC}:443"}
        mixed = StubResolver({"mixed.example.net": [PUBLIC, "10.0.0.5"]})
        (result,) = send(forward.url, "https://mixed.example.net/", resolver=mixed)
        assert (result.error_code, len(forward.asked)) == ("blocked_address", 26)


def test_the_next_address_is_tried_where_the_first_fails() -> None:
    """One address that the proxy cannot connect, or may not, does not keep from the others."""
    own = OPEN | {"ALLOW_NETWORKS": ["127.0.0.0/8"]}
    denied = b"HTTP/1.1 403 No\r\n\r\n"
    with Receiver() as receiver, override_settings(WEBHOOKS=own):
        resolver = StubResolver({HOST: ["127.0.0.2", "127.0.0.1"]})
        place = f"http://{HOST}:{receiver.port}/hook"
        with ForwardProxy([denied]) as forward:
            (result,) = send(forward.url, place, resolver=resolver)
            assert (outcome(result), result.remote_address) == ((200, ""), "127.0.0.1")
        refused = b"HTTP/1.1 503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n"
        for script in ([denied, refused], [refused, denied]):  # what is known of the receiver wins
            with ForwardProxy(script) as forward:
                (result,) = send(forward.url, place, resolver=resolver)
                assert (result.error_code, len(forward.asked)) == ("connect", 2)
        with ForwardProxy([denied]) as forward:
            assert fetch(forward.url, place, resolver=resolver)[0] == 200


# -- what goes wrong ------------------------------------------------------------------------------


def test_faults_of_the_proxy_say_what_it_did_and_no_secret(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Absent, closed, no HTTP, 407, and too eager: all are `proxy`, for downloads too.

    What concerns all receivers is logged once, and once when it is over.
    """
    cases = {
        b"": "closed the connection without an answer",
        b"SSH-2.0-OpenSSH\r\n\r\n": "not valid HTTP",
        b"HTTP/1.1 407 No\r\n\r\n": "407",
        ESTABLISHED + b"220 mail": "bytes came through the proxy before the request",
    }
    with Receiver() as receiver, override_settings(WEBHOOKS=OPEN):
        place = f"http://{HOST}:{receiver.port}/hook"
        for said, text in cases.items():
            with ForwardProxy([said] * 2) as forward:
                at = forward.url.replace("//", f"//movies:{SECRET}@")
                (result,) = send(at, place)
                for code, error in ((result.error_code, result.error), fetch(at, place)[1:]):
                    assert (code, text in error, SECRET in error) == ("proxy", True, False)
        port = free_port()
        at = f"http://movies:{SECRET}@127.0.0.1:{port}"
        (result,) = send(at, place)
        assert result.error == "the proxy cannot be reached: connection refused"
        assert fetch(at, place)[1:] == ("proxy", result.error)
        with ForwardProxy(port=port):
            assert outcome(send(at, place)[0]) == (200, "")
        told = capfd.readouterr().err
        lines = [line for line in told.splitlines() if f":{port} " in line or f":{port}\n" in line]
        assert ["does not work" in line for line in lines] == [True, False]
        assert SECRET not in told
        assert send("http://proxy.invalid:3128", place)[0].error_code == "proxy"


def test_a_proxy_that_says_nothing_in_time_is_not_the_receiver() -> None:
    """Its full backlog takes no connection: with the time-out that is the proxy's fault too."""
    trace = Trace()
    trace.is_at_proxy = True
    assert explain(TimeoutError(), trace)[0] == "proxy"
    assert explain(OSError(errno.ETIMEDOUT, ""), Trace())[0] == "timeout"


def test_a_proxy_that_hangs_is_told_from_a_receiver_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CONNECT without an answer is the receiver's, unless the proxy answers nothing at all."""
    monkeypatch.setattr(dial, "CONNECT_SECONDS", 0.1)
    place = f"http://{HOST}:8080/hook"
    with override_settings(WEBHOOKS=OPEN):
        with ForwardProxy(waits_for="CONNECT ") as slow:
            (result,) = send(slow.url, place)
            assert (result.error_code, result.error) == ("timeout", "no connection in time")
            assert [head.split()[0] for head in slow.heads] == ["CONNECT", "OPTIONS"]
        with slow_socks() as url:
            (result,) = send(url, place)
            assert (result.error_code, result.error) == ("timeout", "no connection in time")
        monkeypatch.setattr(proxy, "ALIVE_SECONDS", 0.1)
        with ForwardProxy(waits_for="") as hung:
            (result,) = send(hung.url, place)
            text = "the proxy takes connections, but answers nothing"
            assert (result.error_code, result.error) == ("proxy", text)
            assert fetch(hung.url, place)[1:] == ("proxy", text)
            (result,) = send(hung.url.replace("http", "socks5"), place)
            assert (result.error_code, result.error) == ("proxy", text)


def test_what_reaches_the_tunnel_is_judged_once_more() -> None:
    """An address that no resolver gave, as a literal or by another client, is denied here too."""

    async def run() -> None:
        through = read_proxy(forward.url)
        assert through is not None
        for address in (dial.address_of("10.0.0.5", 443), dial.address_of("::1", 443)):
            with pytest.raises(PolicyBlocked):
                await proxy.tunnel(through, [address], address_allowed, Trace())

    with ForwardProxy() as forward, override_settings(WEBHOOKS=STRICT):
        uvloop.run(run())
        assert forward.asked == []


# -- the setting ----------------------------------------------------------------------------------


def test_the_setting_is_read_strictly() -> None:
    """What cannot be a proxy is refused with the form to write, and never quoted."""
    found = read_proxy("socks5://movies:p%40ss%3A1@[fd00::5]:1080/", is_guard=True)
    assert found is not None
    assert (found.user, found.password, found.host) == ("movies", "p@ss:1", "fd00::5")
    assert (str(found), found.is_guard) == ("socks5://[fd00::5]:1080", True)
    assert "p@ss" not in repr(found)
    assert read_proxy("") is None
    wrong = """
        proxy:3128 http://proxy http://:3128 http://proxy:0 http://proxy:99999 ftp://proxy:1
        https://proxy:3128 socks5h://proxy:1 socks4://proxy:1 http://proxy:3128/path
        http://proxy:3128?x=1 http://u:hunter/2@proxy:3128 http://:hunter2@proxy:3128
        http://u%3Ax:hunter2@proxy:3128 socks5://u:hünter2@proxy:1 socks5://hunter2@proxy:1
        http://u:hunter2%0d%0a@proxy:3128
    """
    for text in wrong.split():
        with pytest.raises(ValueError, match=r"http://host:port|socks5|user name") as raised:
            read_proxy(text)
        assert "hunter" not in str(raised.value) + str(raised.value.__cause__)
