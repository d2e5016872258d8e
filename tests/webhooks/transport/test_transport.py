"""One request at a time against a receiver that does everything a receiver can do."""

import asyncio
import resource
import socket
import time

import pytest
import uvloop
from django.test import override_settings

from tests.support import answers, certificates
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.conf import webhook_settings
from webhooks_app.signing.scheme import generate_secret, signature_header
from webhooks_app.transport import wire
from webhooks_app.transport.client import Transport
from webhooks_app.transport.wire import tls_context

SETTINGS = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}
BODY = b'{"task_id":"1"}'
#: For requests whose time-out is the subject; others are given time, however busy the machine is.
SHORT = 0.4


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch):
    """Plain http to 127.0.0.1, and short waits."""
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.2)
    with override_settings(WEBHOOKS=SETTINGS):
        yield


def send(url, *, times=1, timeout=10.0, headers=None, between=None, **transport):
    """Send ``times`` requests one after the other over one transport."""

    async def run():
        results = []
        async with Transport(**transport) as client:
            for _ in range(times):
                results.append(await client.send(url, headers or {}, BODY, timeout=timeout))
                if between:
                    await between()
        return results

    # As in production; the tests of the egress policy and of downloads run on asyncio's own loop.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def send_one(answer, **how):
    """Send one request to a receiver with that answer and return the result."""
    with Receiver([answer]) as receiver:
        return send(receiver.url, **how)[0]


# -- what goes out --------------------------------------------------------------------------------


def test_request_carries_our_headers_and_the_exact_body():
    """Proves what a receiver sees: our headers, our body's bytes, and nothing else."""
    secret = generate_secret()
    now = int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature_header([secret], "msg_1", now, BODY),
    }
    with Receiver(secret=secret) as receiver:
        send(receiver.url + "?a=%20&b", headers=headers)
        (request,) = receiver.wait_for(1)
    assert request.is_verified
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=%20&b", BODY)
    assert request.headers == {
        **headers,
        "host": f"127.0.0.1:{receiver.port}",
        "content-length": str(len(BODY)),
        "accept-encoding": "identity",
        "user-agent": webhook_settings.USER_AGENT,
    }


def test_header_with_line_break_is_our_bug_and_never_sent():
    """Proves that header injection raises instead of reaching a receiver."""
    with Receiver() as receiver:
        with pytest.raises(ValueError):
            send(receiver.url, headers={"webhook-event": "a\r\nX-Evil: 1"})
        assert receiver.requests == []


def test_cookies_of_a_receiver_are_never_sent_back():
    """Proves R19: two messages to one origin share no state."""
    cookie = Answer(headers=(("Set-Cookie", "session=tenant-a"),))
    with Receiver([cookie]) as receiver:
        send(receiver.url, times=2)
        assert all("cookie" not in request.headers for request in receiver.wait_for(2))


# -- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_status_is_success(status):
    """Proves that the four success statuses are recorded without an error."""
    result = send_one(status)
    assert (result.status, result.error_code, result.error) == (status, "", "")
    assert result.response_body == (b"" if status == 204 else b"ok")
    assert not result.truncated


@pytest.mark.parametrize("status", [101, 203, 206, 226, 299, 404, 410, 429, 500, 503, 999])
def test_other_status_is_a_failure(status):
    """Proves R12 and R13: nothing but the four statuses is success."""
    result = send_one(status)
    assert (result.status, result.error_code) == (status, "http_status")
    assert result.error == f"status {status}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_recorded_and_not_followed(status):
    """Proves R11: no second connection, wherever a redirect points."""
    with Receiver() as inner, Receiver([answers.redirect(inner.url, status)]) as receiver:
        (result,) = send(receiver.url)
        assert inner.connections == 0
        assert receiver.connections == 1
        location = inner.url
    assert result.error_code == "redirect_refused"
    assert ("Location", location) in result.response_headers


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answers.hang(), "timeout"),
        (answers.flood_102(), "timeout"),
        (answers.huge_headers(), "protocol"),
        (answers.raw(b"HTTP/1.1 200 " + b"x" * 65536 + b"\r\n\r\n"), "protocol"),
        (answers.raw(b"\x1b[31mSECRET-OF-RECEIVER\r\n\r\n"), "protocol"),
        (answers.raw(b"<html>HTTP/0.9</html>"), "protocol"),
        (answers.raw(bytes(range(256)) * 4), "protocol"),
        (answers.raw(b""), "reset"),
        (answers.reset(), "reset"),
        (answers.reset(after=b"HTTP/1.1 20"), "reset"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_failure_is_named_and_shows_no_receiver_bytes(answer, code):
    """Proves R1, R2, R6, R7, R8: each fault has its code, within the time-out, in our own words."""
    started_at = time.perf_counter()
    result = send_one(answer, timeout=SHORT if code == "timeout" else 60.0)
    assert time.perf_counter() - started_at < 20, "faults end at once, silence at the time-out"
    assert (result.status, result.error_code) == (None, code)
    assert result.error
    assert result.error.isprintable()
    assert "SECRET" not in result.error
    assert not result.reconnected
    assert result.remote_address == "127.0.0.1"


@pytest.mark.parametrize(("status", "code"), [(200, ""), (500, "http_status")])
@pytest.mark.parametrize("make", [answers.drip_body, answers.endless_body, answers.length_lie])
def test_status_decides_whatever_the_body_does(make, status, code):
    """Proves R3, R4, R9: the outcome is known at the headers; of the body the start is kept."""
    started_at = time.perf_counter()
    result = send_one(make(status), timeout=60.0)
    assert time.perf_counter() - started_at < 20, "the body has its own limit"
    assert (result.status, result.error_code, result.truncated) == (status, code, True)
    assert 0 < len(result.response_body) <= 65536


def test_endless_body_costs_no_memory():
    """Proves F12: what is not kept is not read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        assert len(send_one(answers.endless_body()).response_body) == 65536
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * 1024


def test_body_of_exactly_the_limit_is_whole():
    """Proves the boundary of the 64 KiB that are kept."""
    assert not send_one(Answer(body=b"x" * 65536)).truncated
    longer = send_one(Answer(body=b"x" * 65537))
    assert (longer.truncated, len(longer.response_body)) == (True, 65536)


def test_compressed_answer_is_stored_as_it_came():
    """Proves R5: nothing is ever inflated."""
    result = send_one(answers.gzip_bomb())
    assert result.error_code == ""
    assert result.response_body == answers.bomb(20_000_000)[:65536]


def test_answer_before_the_body_is_read_counts():
    """Proves R10: a receiver may answer early."""
    assert send_one(Answer(is_early=True)).error_code == ""


@pytest.mark.parametrize(("value", "seconds"), [("120", 120.0), ("-5", None), ("soon", None)])
def test_retry_after_is_read_from_the_answer(value, seconds):
    """Proves R14: a usable Retry-After arrives as seconds, garbage as none."""
    assert send_one(answers.retry_after(value)).retry_after == seconds


def test_response_headers_can_be_stored_and_shown():
    """Proves that header bytes of any kind become printable text that PostgreSQL takes."""
    hostile = (("X-Odd", "\x9b31m\xff"), ("X-Plain", "yes"))
    result = send_one(Answer(headers=hostile))
    headers = dict(result.response_headers)
    assert headers["X-Plain"] == "yes"
    assert headers["X-Odd"] == "?31m\xff"


def test_phases_and_address_are_recorded():
    """Proves that duration, phases and the dialled address are known for each attempt."""
    with Receiver([Answer(delay=0.05)]) as receiver:
        url = receiver.url.replace("127.0.0.1", "hook.example.net")
        stub = StubResolver({"hook.example.net": ["127.0.0.1"]})
        first, second = send(url, times=2, resolver=stub)
    assert first.phases.keys() == {"dns_ms", "connect_ms", "first_byte_ms"}
    assert second.phases.keys() == {"first_byte_ms"}
    for result in (first, second):
        assert 45 <= result.phases["first_byte_ms"] <= result.duration_ms < 400
        assert result.remote_address == "127.0.0.1"


def test_failed_attempt_shows_the_phases_it_went_through():
    """Proves that a time-out, a refusal, a silent name server and a block can be told apart."""
    stub = StubResolver({"hook.example.net": ["127.0.0.1"], "inner.example.net": ["10.0.0.5"]})
    with Receiver([200, answers.hang()]) as receiver:
        url = receiver.url.replace("127.0.0.1", "hook.example.net")
        answered, waiting = send(url, times=2, timeout=SHORT, resolver=stub)
        (fresh,) = send(url, timeout=SHORT, resolver=stub)
    assert "connect_ms" in answered.phases
    assert (waiting.error_code, waiting.phases) == ("timeout", {})
    assert fresh.phases.keys() == {"dns_ms", "connect_ms"}
    assert fresh.phases["connect_ms"] < 200 < 390 < fresh.duration_ms
    (unresolved,) = send(url, timeout=SHORT, resolver=FailingResolver(hangs=True))
    assert unresolved.phases.keys() == {"dns_ms"}
    assert 390 < unresolved.phases["dns_ms"] <= unresolved.duration_ms
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (refused,) = send(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert refused.phases.keys() == {"connect_ms"}
    (blocked,) = send("http://inner.example.net/", resolver=stub)
    assert (blocked.error_code, blocked.phases) == ("blocked_address", {})


# -- connections ----------------------------------------------------------------------------------


def test_refused_connection_is_a_connect_error():
    """Proves the error code for a port where nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (result,) = send(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert (result.error_code, result.error) == ("connect", "connection refused")


def test_connections_are_reused():
    """Proves that one hundred requests to one receiver take one connection."""
    with Receiver() as receiver:
        results = send(receiver.url, times=100)
        assert receiver.connections == 1
    assert all(result.error_code == "" for result in results)


@pytest.mark.parametrize("way", ["fin", "rst"])
def test_dead_kept_connection_is_replaced_within_the_attempt(way):
    """Proves R18: a reused connection that breaks before the answer costs no attempt."""
    with Receiver(drops_reused=way) as receiver:
        first, second, third = send(receiver.url, times=3)
        assert len(receiver.requests) == 3
        assert receiver.dropped == 1
    assert [r.error_code for r in (first, second, third)] == ["", "", ""]
    assert [r.reconnected for r in (first, second, third)] == [False, True, False]


@pytest.mark.parametrize(
    "broken",
    [
        answers.reset(after=b"HTTP/1.1 20"),
        answers.raw(b"\x00\xffgarbage\r\n\r\n"),
        answers.raw(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_whatever_befalls_a_reused_connection_is_replaced_once(broken):
    """Proves R18: garbage, a cut status line and an unrequested 408 cost no attempt.

    On a new connection each of them is the receiver's answer.
    """
    with Receiver([200, broken, 202]) as receiver:
        first, second = send(receiver.url, times=2)
        assert len(receiver.requests) == 3
    assert (first.status, second.status, second.reconnected) == (200, 202, True)
    assert send_one(broken).error_code != ""


def test_status_of_a_reused_connection_stands_whatever_follows():
    """Proves that a request is not repeated once its status line has come."""
    script = [200, answers.reset(after=b"HTTP/1.1 200 OK\r\nX-Half"), 200]
    with Receiver(script) as receiver:
        _, broken = send(receiver.url, times=2)
        assert len(receiver.requests) == 2
    assert (broken.status, broken.error_code, broken.reconnected) == (200, "", False)
    assert broken.error == "note: the headers were cut off"


def test_what_nobody_asked_for_is_no_answer_to_the_next_request():
    """Proves that a success sent in advance is not taken for the answer to another webhook."""

    async def pause():
        await asyncio.sleep(0.1)

    early = answers.unasked(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with Receiver([early, 503]) as receiver:
        first, second = send(receiver.url, times=2, between=pause)
        assert len(receiver.requests) == 2
    assert (first.status, second.status, second.reconnected) == (200, 503, True)


def test_receiver_that_closes_idle_connections_causes_no_failure():
    """Proves R18 for the race itself: requests that meet a closing connection still succeed."""

    async def pause():
        await asyncio.sleep(0.002)

    with Receiver(idle_seconds=0.002) as receiver:
        # A busy machine may hold one of a thousand up for longer than the usual 0.4 s.
        results = send(receiver.url, times=1_000, timeout=10, between=pause)
        assert receiver.connections > 10
    assert [r.error for r in results if r.error_code] == []


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("expired", "expired"),
        ("self_signed", "self"),
        ("wrong_name", "ostname"),
        ("old_tls", "handshake"),
        ("hang", "in time"),
        ("reset", "handshake"),
    ],
)
def test_broken_tls_is_named_and_never_worked_around(kind, word):
    """Proves R15: no request leaves over a connection that is not verified."""
    tls = kind if kind in ("hang", "reset") else certificates.server_context(kind)
    with Receiver(tls=tls) as receiver:
        result = send_tls(receiver, timeout=SHORT if kind == "hang" else 10.0)
        assert receiver.requests == []
    assert result.error_code == "tls"
    assert word in result.error


def test_valid_tls_is_verified_against_the_name():
    """Proves that the same set-up delivers when the certificate is right, and only by name."""
    with Receiver(tls=certificates.server_context()) as receiver:
        assert send_tls(receiver).error_code == ""
        assert send_tls(receiver, host="127.0.0.1").error_code == "tls"


def send_tls(receiver, host=certificates.HOST, timeout=10.0):
    """Send one request over TLS by name, trusting the tests' authority."""
    resolver = StubResolver({certificates.HOST: ["127.0.0.1"]})
    tls = certificates.trust(tls_context.__wrapped__())
    url = f"https://{host}:{receiver.port}/"
    return send(url, resolver=resolver, tls=tls, timeout=timeout)[0]


class FailingResolver(StubResolver):
    """Answers like a name server that knows nothing, or not at all."""

    def __init__(self, hangs):
        super().__init__({})
        self.hangs = hangs

    async def resolve(self, host, port=0, family=socket.AF_INET):
        if self.hangs:
            await asyncio.sleep(60)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("hangs", [False, True])
def test_failed_look_up_is_dns(hangs):
    """Proves R16: no such name, and no answer within the total time-out."""
    (result,) = send("http://hook.example.net/", timeout=SHORT, resolver=FailingResolver(hangs))
    assert (result.error_code, result.remote_address) == ("dns", "")


def test_system_resolver_is_guarded_too():
    """Proves with the real resolver that a local name is judged by its address."""
    with override_settings(WEBHOOKS={"REQUIRE_HTTPS": False, "ALLOW_HOSTS": ["localhost"]}):
        (result,) = send("http://localhost:9/", timeout=2)
    assert result.error_code == "blocked_address"


def test_unknown_failure_after_sending_is_a_reset():
    """Proves that an error of no known kind still gets a code of the list."""
    from webhooks_app.transport.failure import Trace, explain

    trace = Trace()
    trace.sent_at = 1.0
    assert explain(OSError("odd"), trace)[0] == "reset"
