"""Does this process open any connection with a socket that the egress policy did not check?

Whatever dials for a URL that somebody gave: the engine, a download, a provider's protocol.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

import aiohttp
import pytest
import uvloop

from tasks_app.providers.remote.client import ProviderClient, Server
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import download, publish, running_engine, status_of
from tests.support.waiting import wait_until
from webhooks_app import egress

pytestmark = pytest.mark.django_db(transaction=True)
INTERNET = (socket.AF_INET, socket.AF_INET6)


@dataclass
class Dials:
    """The addresses that TCP sockets of this process were told to connect to."""

    guarded: list[Any] = field(default_factory=list)
    bypassed: list[Any] = field(default_factory=list)


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> Dials:
    """Watch every connect while the guard notes the sockets that it made."""
    seen, judged = Dials(), WeakSet[socket.socket]()
    make, connect = egress.guarded_socket, socket.socket.connect

    def noting(*arguments: Any, **named: Any) -> socket.socket:
        made = make(*arguments, **named)
        judged.add(made)
        return made

    def watched(own: socket.socket, address: Any) -> None:
        if own.family in INTERNET and own.type == socket.SOCK_STREAM:
            (seen.guarded if own in judged else seen.bypassed).append(address)
        connect(own, address)

    monkeypatch.setattr(egress, "guarded_socket", noting)
    monkeypatch.setattr(socket.socket, "connect", watched)
    return seen


def to(seen: Dials, receiver: Receiver) -> list[Any]:
    """Return the guarded dials to one receiver."""
    return [address for address in seen.guarded if address[1] == receiver.port]


def test_the_engine_dials_guarded_sockets_only(dials: Dials) -> None:
    """First attempts, retries and the repeat after a dead kept connection all pass the guard."""
    with Receiver(drops_reused="rst") as dropping, Receiver([500, 200]) as failing:
        with running_engine():
            for number in range(3):
                event = publish(dropping.url, subject=f"task-{number}")
                wait_until(lambda event=event: status_of(event) == "delivered")
            event = publish(failing.url, subject="retried")
            wait_until(lambda: status_of(event) == "delivered")
        assert len(to(dials, dropping)) == dropping.connections == 3
        assert len(to(dials, failing)) == failing.connections == 1
    assert dials.bypassed == []


def test_downloads_and_providers_dial_guarded_sockets_only(dials: Dials, tmp_path: Path) -> None:
    """A download, a provider's origin and a URL from its answer all pass the guard."""
    networks = (ipaddress.ip_network("127.0.0.0/8"),)

    async def work(server: Server) -> None:
        async with ProviderClient(server) as line:
            await line.call("POST", "work", {})
            await line.download(elsewhere.url, tmp_path / "result", 1_000)

    with Receiver([Answer(body=b"{}")]) as home, Receiver([200]) as elsewhere:
        assert download(elsewhere.url, max_bytes=9, timeout=2).error_code == ""
        uvloop.run(work(Server("home", home.url, {}, networks)))
        assert len(to(dials, home)) == home.connections == 1
        assert len(to(dials, elsewhere)) == elsewhere.connections == 2
    assert dials.bypassed == []


def test_a_bypass_would_be_seen(dials: Dials) -> None:
    """The test's own watch notices a client that bypasses the transport."""

    async def fetch(url: str) -> int:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status

    with Receiver([200]) as receiver:
        assert uvloop.run(fetch(receiver.url)) == 200
        assert [address[1] for address in dials.bypassed] == [receiver.port]
