"""Do deliveries, assets and providers work through real forward proxies, and what if one stops?

Debian's squid, nearly as installed, and its two SOCKS5 servers, microsocks and Dante.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import uvloop
from django.test import Client, override_settings
from django.utils import timezone

from tasks_app.assets import fetch
from tasks_app.models import MediaFile
from tests.support import certificates
from tests.support.answers import Answer
from tests.support.factories import PROJECT
from tests.support.fake_provider import FakeProvider
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.remote_work import KEY, begin, ended, good_run, remote_work, use
from tests.support.running import attempts_of, publish, running_engine, status_of
from tests.support.servers.forward_proxies import (
    CREDENTIALS,
    dante,
    microsocks,
    squid,
)
from tests.support.uploads import ASSETS, png
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver
from tests.webhooks.transport.test_proxy import outcome, trusting
from webhooks_app import egress, retry
from webhooks_app.models import WebhookDestination, WebhookMessage
from webhooks_app.retry import AttemptResult
from webhooks_app.transport import Transport
from webhooks_app.transport import proxy as forward

HOST, DENIED = certificates.HOST, "127.0.0.9"
POLICY = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.0/8"], "ALLOW_HOSTS": ["localhost"]}


@pytest.fixture(autouse=True)
def _loopback_allowed(settings: Any) -> None:
    settings.WEBHOOKS = {**settings.WEBHOOKS, **POLICY}


@pytest.fixture(scope="module")
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    """A receiver that speaks http and one that speaks https."""
    with Receiver() as plain, Receiver(tls=certificates.server_context()) as secure:
        yield plain, secure


def send(proxy: str, places: Sequence[str], **how: Any) -> list[AttemptResult]:
    """POST to the places one after the other over one transport."""
    names = {HOST: ["127.0.0.1"], "denied.example.net": [DENIED]}
    resolver = how.pop("resolver", None) or StubResolver(names)

    async def run() -> list[AttemptResult]:
        through = egress.read_proxy(proxy, **how)
        async with Transport(resolver=resolver, tls=trusting(), proxy=through) as transport:
            return [await transport.send(place, {}, b"{}", 10) for place in places]

    return uvloop.run(run())


def urls(receivers: tuple[Receiver, Receiver], host: str = HOST) -> list[str]:
    plain, secure = receivers
    return [f"http://{host}:{plain.port}/hook", f"https://{HOST}:{secure.port}/hook"]


def told(results: list[AttemptResult]) -> list[tuple[int | None, str]]:
    return [outcome(result) for result in results]


def are_reused(results: list[AttemptResult]) -> list[bool]:
    return ["connect_ms" not in result.phases for result in results]


def test_squid_with_users(receivers: tuple[Receiver, Receiver]) -> None:
    """http and https through CONNECT to the judged address, over kept tunnels; each fault is named.

    Debian's rules stand: a port that was not added is refused, which is no fault of the receiver.
    """
    ports, closed = [each.port for each in receivers], free_port()
    own = f"acl denied dst {DENIED}\nhttp_access deny denied\n"
    names = {HOST: "127.0.0.1"}
    with squid([*ports, closed], own=own, has_users=True, hosts=names) as proxy:
        places = urls(receivers)
        results = send(proxy.url(CREDENTIALS), places * 3)
        assert told(results) == [(200, "")] * 6
        assert are_reused(results) == [False] * 2 + [True] * 4
        faults = {
            f"http://{HOST}:{closed}/": ("connect", "connection refused"),
            f"http://{HOST}:{free_port()}/": ("proxy", "the proxy answered 403 to CONNECT"),
            f"http://denied.example.net:{ports[0]}/": ("proxy", "answered 403 to CONNECT"),
        }
        for result, (code, text) in zip(
            send(proxy.url(CREDENTIALS), list(faults)), faults.values(), strict=True
        ):
            assert (result.error_code, text in result.error) == (code, True), result
        for at in (proxy.url(), proxy.url("movies:wrong")):
            (result,) = send(at, places[:1])
            assert (result.error_code, "407" in result.error) == ("proxy", True)
        asked = wait_until(lambda: proxy.asked_for()[4:] and proxy.asked_for())
        assert all(place.startswith("127.0.0.") for place in asked), asked

        # What it is asked where a CONNECT gets no answer in time.
        through = egress.read_proxy(proxy.url(CREDENTIALS))
        assert through is not None
        assert uvloop.run(forward._is_alive(through))

        guarded = send(proxy.url(CREDENTIALS), places * 2, is_guard=True)
        assert (told(guarded), are_reused(guarded)) == ([(200, "")] * 4, [False] * 2 + [True] * 2)
        wait_until(lambda: f"{HOST}:{ports[1]}" in proxy.asked_for())


def test_squid_is_never_told_an_address_that_was_not_judged(
    receivers: tuple[Receiver, Receiver],
) -> None:
    """A name that changes between public and private: squid sees the public address only."""

    class Flipping(StubResolver):
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> Any:
            self.answers = {host: ["10.0.0.5" if len(self.calls) % 2 else "127.0.0.1"]}
            return await super().resolve(host, port, family)

    never = {**POLICY, "CONNECTION_MAX_AGE_SECONDS": 0.0}
    plain = receivers[0]
    with squid([plain.port], hosts={}) as proxy, override_settings(WEBHOOKS=never):
        place = f"http://rebind.example.net:{plain.port}/hook"
        results = send(proxy.url(), [place] * 40, resolver=Flipping({}))
        assert told(results) == [(200, ""), (None, "blocked_address")] * 20
        asked = wait_until(lambda: len(proxy.asked_for()) == 20 and proxy.asked_for())
        assert set(asked) == {f"127.0.0.1:{plain.port}"}


def test_microsocks_and_dante(receivers: tuple[Receiver, Receiver]) -> None:
    """SOCKS5 with and without users carries http and https; its replies are told apart."""
    places, closed = urls(receivers), f"http://{HOST}:{free_port()}/"
    names = urls(receivers, "localhost")[:1]
    block = f"socks block {{ from: 127.0.0.1/32 to: {DENIED}/32 }}"
    with microsocks(has_users=True) as users, dante(block) as open_one:
        for at in (users.url(CREDENTIALS), open_one.url()):
            results = send(at, [*places, *places, closed])
            assert told(results) == [(200, "")] * 4 + [(None, "connect")], at
            assert are_reused(results)[:4] == [False, False, True, True]
            assert results[4].error == "connection refused"
            assert told(send(at, names, is_guard=True)) == [(200, "")]
            # What they are asked where they make no tunnel in time.
            through = egress.read_proxy(at)
            assert through is not None
            assert uvloop.run(forward._is_alive(through))
        for at in (users.url(), users.url("movies:wrong")):
            (result,) = send(at, places[:1])
            assert (result.error_code, "SOCKS5" in result.error) == ("proxy", True), result
        (result,) = send(open_one.url(), [f"http://denied.example.net:{receivers[0].port}/"])
        assert (result.error_code, "SOCKS error 2" in result.error) == ("proxy", True), result


@pytest.mark.django_db(transaction=True)
def test_squid_stops_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed under load and started again twice: each message arrives, and none used up a retry."""
    monkeypatch.setattr(retry, "PROXY_WAIT_MAX_SECONDS", 1.0)
    with Receiver() as receiver, squid([receiver.port], hosts={}) as proxy:
        with running_engine(proxy=egress.read_proxy(proxy.url())):
            events = []
            for round_ in range(2):
                events += [publish(receiver.url, subject=f"up-{round_}-{n}") for n in range(20)]
                wait_until(partial(_all_delivered, events), 20)
                proxy.stop()
                events += [publish(receiver.url, subject=f"down-{round_}-{n}") for n in range(20)]
                wait_until(_is_one_held_back, 20)
                proxy.start()
            wait_until(partial(_all_delivered, events), 30)
        arrived = {request.message_id for request in receiver.requests}
        assert arrived == {event.event_id for event in events}
    assert not WebhookMessage.objects.exclude(retry_step=0).exists()
    destination = WebhookDestination.objects.get()
    assert (destination.breaker_state, destination.failing_messages) == ("closed", 0)
    assert any(each.error_code == "proxy" for event in events for each in attempts_of(event))


def _all_delivered(events: list[Any]) -> bool:
    return all(status_of(event) == "delivered" for event in events)


def _is_one_held_back() -> bool:
    return WebhookMessage.objects.filter(status="pending", last_error_code="proxy").exists()


@pytest.mark.django_db(transaction=True)
def test_assets_and_providers_go_through_squid(api: Client, settings: Any) -> None:
    """An asset's URL and a provider's work come through, each by its own setting."""
    with (
        Receiver([Answer(body=png())]) as server,
        FakeProvider() as fake,
        squid([server.port, int(fake.url.rpartition(":")[2])], has_users=True, hosts={}) as proxy,
        microsocks() as other,
    ):
        settings.ASSET_PROXY = proxy.url(CREDENTIALS)
        assert _fetched(api, server.url).state == "ready"
        wait_until(lambda: proxy.asked_for() == [f"127.0.0.1:{server.port}"], message=proxy.log)

        settings.REPLICATE_BASE_URL, settings.REPLICATE_API_TOKEN = fake.url, KEY
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
        fake.script = good_run(fake.url)
        for through in (proxy, other):
            credentials = CREDENTIALS if through is proxy else ""
            settings.PROVIDER_PROXY = [f"replicate={through.url(credentials)}"]
            use("replicate")
            with remote_work():
                assert ended(begin()).status == "completed"
        port = fake.url.rpartition(":")[2]
        wait_until(lambda: f"127.0.0.1:{port}" in proxy.asked_for(), message=proxy.log)


def _fetched(api: Client, url: str) -> MediaFile:
    answer = api.post(ASSETS, {"project_id": PROJECT, "url": url}, "application/json")
    assert answer.status_code == 201, answer.content
    file = MediaFile.objects.get(pk=answer.json()["asset_id"])
    assert file.due_at is not None
    assert file.due_at <= timezone.now()
    fetch.fetch_due()
    file.refresh_from_db()
    return file
