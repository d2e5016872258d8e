"""What does the engine record, and decide, for each thing that a receiver can do?

Real sockets, through the engine and down to the rows: R1 to R12, R14 to R16, R18 and R19 of the
receiver behaviours. The single request is `test_transport`'s; races and rotation are in
`test_receiver_behaviours_flow`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from email.utils import formatdate
from typing import Any

import pytest
from django.utils import timezone

from tests.support import answers, certificates, processes, sender
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import attempts_of, publish, running_engine
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.models import WebhookDelivery, WebhookDestination, WebhookEvent, WebhookMessage
from webhooks_app.transport.wire import tls_context

pytestmark = pytest.mark.django_db(transaction=True)

TIMEOUT_SECONDS = 1.2
FAR_POLICY = [60]
# The nightly run sets ZOO_ROUNDS=50.
ROUNDS = int(os.environ.get("ZOO_ROUNDS", "1"))
# What an attempt leaves: error code, status, whether the stored body is cut, message's state.
RETRIED, DONE, DEAD = "pending", "delivered", "dead"
ANSWERS: dict[str, tuple[Answer | int, tuple[str, int | None, bool, str]]] = {
    "R1 hangs": (answers.hang(), ("timeout", None, False, RETRIED)),
    "R2 drips headers": (answers.drip_headers(), ("", 200, False, DONE)),
    "R2 endless 102": (answers.flood_102(), ("timeout", None, False, RETRIED)),
    "R3 200, then drips": (answers.drip_body(), ("", 200, True, DONE)),
    "R4 endless body": (answers.endless_body(), ("", 200, True, DONE)),
    "R4 endless error": (answers.endless_body(500), ("http_status", 500, True, RETRIED)),
    "R5 gzip bomb": (answers.gzip_bomb(100_000_000), ("", 200, True, DONE)),
    "R6 many headers": (answers.huge_headers(), ("protocol", None, False, RETRIED)),
    "R6 long status line": (
        answers.raw(b"HTTP/1.1 200 " + b"x" * 65536 + b"\r\n\r\n"),
        ("protocol", None, False, RETRIED),
    ),
    "R7 garbage": (answers.raw(bytes(range(256))), ("protocol", None, False, RETRIED)),
    "R7 HTTP/0.9": (answers.raw(b"<html>old</html>"), ("protocol", None, False, RETRIED)),
    "R8 reset": (answers.reset(), ("reset", None, False, RETRIED)),
    "R9 length lie": (answers.length_lie(), ("", 200, True, DONE)),
    "R10 early answer": (Answer(is_early=True), ("", 200, False, DONE)),
    "R12 1xx, then 202": (
        answers.raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
        ),
        ("", 202, False, DONE),
    ),
    **{f"R12 {s}": (s, ("http_status", s, False, RETRIED)) for s in (101, 203, 206, 299, 999)},
    **{f"R12 {s}": (s, ("", s, False, DONE)) for s in (200, 201, 202, 204)},
}
TLS_FAULTS = ("expired", "self_signed", "wrong_name", "old_tls", "hang", "reset")


class Names(StubResolver):
    """Resolves every name to 127.0.0.1, except one that is absent and one without an answer."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> Any:
        if host.startswith("absent"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host.startswith("silent"):
            await asyncio.sleep(60)
        self.answers[host] = ["127.0.0.1"]
        return await super().resolve(host, port, family)


@pytest.fixture(autouse=True)
def _short_waits(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks_app.transport.wire.BODY_SECONDS", 0.2)
    # No breaker: however often they fail, each must be met again.
    own = {"TIMEOUT_SECONDS": TIMEOUT_SECONDS, "BREAKER_THRESHOLD": 1_000}
    settings.WEBHOOKS = {**settings.WEBHOOKS, **own}


@pytest.fixture
def zoo() -> Iterator[ExitStack]:
    """An engine that trusts the tests' authority and resolves by `Names`; holds receivers too."""
    tls = certificates.trust(tls_context.__wrapped__())
    with ExitStack() as stack:
        stack.enter_context(running_engine(resolver=Names({}), tls=tls))
        yield stack


def seen(event: WebhookEvent) -> tuple[str, int | None, bool, str]:
    """Return the row of the first attempt; it must be closed."""
    attempt = wait_until(
        lambda: (
            WebhookDelivery.objects.filter(message__event=event).exclude(outcome="pending").first()
        )
    )
    message = wait_until(lambda: event.messages.filter(lease_token=None).first())
    return attempt.error_code, attempt.response_status, attempt.is_truncated, message.status


def test_every_answer_is_recorded_as_promised(zoo: ExitStack) -> None:
    """R1-R10, R12, F11: all at once, each gets its code and state after one attempt; RSS stays."""
    answers.bomb(100_000_000)  # made here, so that it is not counted
    urls = {name: zoo.enter_context(Receiver([made])).url for name, (made, _) in ANSWERS.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(ROUNDS):
        meet_all(urls, f"round {number}")
        if not number:  # later on it is receivers and log lines of this process that grow
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    for delivery in WebhookDelivery.objects.defer("response_body").iterator():
        assert delivery.error.isprintable()


def meet_all(urls: dict[str, str], prefix: str) -> None:
    """Publish one event to a receiver of each kind and return the outcomes."""
    started_at = time.monotonic()
    owed = {
        name: publish(url, subject=f"{prefix} {name}", policy=FAR_POLICY)
        for name, url in urls.items()
    }
    assert {name: seen(event) for name, event in owed.items()} == {
        name: expected for name, (_, expected) in ANSWERS.items()
    }
    # Every slot is free again at the time-out: nothing above waited for a body or a header.
    assert time.monotonic() - started_at < TIMEOUT_SECONDS + 5
    attempts = {name: attempts_of(event) for name, event in owed.items()}
    assert {len(own) for own in attempts.values()} == {1}
    assert max(len(own[0].response_body or b"") for own in attempts.values()) <= 65536
    (bombed,) = attempts["R5 gzip bomb"]
    assert bytes(bombed.response_body or b"")[:2] == b"\x1f\x8b", "it was inflated"


def test_meeting_them_all_costs_little_memory() -> None:
    """F11, F12: a sending process meets them all at once, again and again, within 10 MB."""
    with ExitStack() as stack:
        urls = [stack.enter_context(Receiver([answer])).url for answer, _ in ANSWERS.values()]
        rounds = str(2 + ROUNDS)
        ended = processes.run("-m", sender.__name__, rounds, *urls, timeout=30 + 2 * ROUNDS)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 10 * 1024, "kilobytes"


def test_redirects_are_recorded_with_their_target_and_never_followed(zoo: ExitStack) -> None:
    """R11: five redirects to a loopback receiver are five failed attempts and no visit there."""
    inner = zoo.enter_context(Receiver())
    owed = []
    for status in (301, 302, 303, 307, 308):
        receiver = zoo.enter_context(Receiver([answers.redirect(inner.url, status)]))
        owed.append(publish(receiver.url, subject=f"R11 {status}", policy=FAR_POLICY))
    assert [seen(e)[0] for e in owed] == ["redirect_refused"] * 5
    assert [seen(e)[3] for e in owed] == [RETRIED] * 5
    assert {attempts_of(e)[0].response_headers["Location"] for e in owed} == {inner.url}
    assert inner.connections == 0


# Status, Retry-After; what message and origin then wait, where the policy says 20 s.
PATIENCE = [
    (429, "30", 30, 30),
    (503, "600", 600, 60),
    (429, "1000000000", 86_400, 60),
    (503, "in two minutes", 120, 60),
    (429, "-5", 20, None),
    (429, "garbage", 20, None),
    (429, "0", 20, None),
    (500, "600", 20, None),
]


def test_retry_after_moves_the_message_and_holds_the_origin(zoo: ExitStack) -> None:
    """R14: Retry-After counts between the policy's wait and 24 h; the origin rests 60 s at most."""
    owed = []
    for status, value, wait, hold in PATIENCE:
        value = formatdate(time.time() + 120, usegmt=True) if "two" in value else value
        receiver = zoo.enter_context(Receiver([answers.retry_after(value, status)]))
        event = publish(receiver.url, subject=f"{status} {value}", policy=[20])
        owed.append((event, wait, hold))
    for event, wait, hold in owed:
        assert seen(event)[3] == RETRIED
        message = event.messages.get()
        assert _seconds_until(message.next_attempt_at) == pytest.approx(wait, abs=4)
        place = WebhookDestination.objects.filter(pk=message.destination_id)
        destination = wait_until(place.filter(last_failure_at__isnull=False).first)
        assert destination.hold_reason == ("retry_after" if hold else "")
        if hold:
            assert _seconds_until(destination.held_until) == pytest.approx(hold, abs=5)


def _seconds_until(moment: datetime) -> float:
    return (moment - timezone.now()).total_seconds()


def test_broken_tls_never_gets_a_request(zoo: ExitStack) -> None:
    """R15: six faults of TLS are code `tls`, tried again by the policy, with no byte in clear."""
    owed, receivers = {}, []
    for kind in TLS_FAULTS:
        tls = kind if kind in ("hang", "reset") else certificates.server_context(kind)
        receivers.append(zoo.enter_context(Receiver(tls=tls)))
        url = f"https://{certificates.HOST}:{receivers[-1].port}/hook"
        owed[kind] = publish(url, subject=kind, policy=FAR_POLICY)
    right = zoo.enter_context(Receiver(tls=certificates.server_context()))
    literal = publish(f"https://127.0.0.1:{right.port}/", subject="literal", policy=FAR_POLICY)
    fine = publish(f"https://{certificates.HOST}:{right.port}/", subject="valid")
    assert {kind: seen(event) for kind, event in owed.items()} == dict.fromkeys(
        TLS_FAULTS, ("tls", None, False, RETRIED)
    )
    assert seen(literal) == ("tls", None, False, RETRIED)
    assert seen(fine) == ("", 200, False, DONE)
    assert [len(receiver.requests) for receiver in receivers] == [0] * len(TLS_FAULTS)


def test_failed_look_up_is_dns_within_the_time_out(zoo: ExitStack) -> None:
    """R16: an absent name, and one that is never answered, are code `dns` and tried again."""
    absent = publish("http://absent.example.net/", subject="absent", policy=FAR_POLICY)
    silent = publish("http://silent.example.net/", subject="silent", policy=FAR_POLICY)
    assert seen(absent) == ("dns", None, False, RETRIED)
    assert seen(silent) == ("dns", None, False, RETRIED)
    assert attempts_of(silent)[0].duration_ms == pytest.approx(TIMEOUT_SECONDS * 1000, abs=500)


def test_dying_idle_connections_cost_no_attempt(zoo: ExitStack) -> None:
    """R18: 30 messages one after the other to a receiver that drops reused connections."""
    receiver = zoo.enter_context(Receiver(drops_reused="rst"))
    for number in range(30):
        event = publish(receiver.url, subject=f"R18 {number}")
        wait_until(lambda event=event: seen(event)[3] == DONE)
    assert receiver.dropped > 0
    outcomes = WebhookDelivery.objects.values_list("outcome", "reconnected")
    assert {outcome for outcome, _ in outcomes} == {"succeeded"}
    assert sum(is_again for _, is_again in outcomes) == receiver.dropped
    assert len(outcomes) == 30 == len(receiver.requests)


def test_cookies_of_one_tenant_never_reach_another(zoo: ExitStack) -> None:
    """R19: two projects with one receiver over one connection share no cookie."""
    cookie = Answer(headers=(("Set-Cookie", "session=tenant-a"),))
    receiver = zoo.enter_context(Receiver([cookie]))
    for scope in ("tenant_a", "tenant_b", "tenant_a"):
        event = publish(receiver.url, scope=scope, subject=f"{scope} {len(receiver.requests)}")
        assert seen(event)[3] == DONE
    assert receiver.connections == 1
    assert all("cookie" not in request.headers for request in receiver.requests)
    assert WebhookMessage.objects.count() == len(receiver.requests) == 3
