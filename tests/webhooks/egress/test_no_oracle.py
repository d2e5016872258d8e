"""What does a client learn about the internal network from webhooks sent there? Nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import Client

from tests.support import answers, factories
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, publish, running_engine, status_of
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver

pytestmark = pytest.mark.django_db(transaction=True)

#: What may differ between attempts: who they are, when they were, what was given and signed.
OWN = ("id", "message_id", "event_id", "task_id", "url", "started_at", "duration_ms")
OWN += ("request_headers",)


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    """Internal services: one that answers, one that hangs, and a port where nothing listens."""
    with ExitStack() as stack:
        secret = Answer(500, body=b"inner secret", headers=(("X-Inner", "yes"),))
        answering = stack.enter_context(Receiver([secret]))
        hanging = stack.enter_context(Receiver([answers.hang()]))
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        yield {
            "answers": answering.port,
            "hangs": hanging.port,
            "is closed": closed.getsockname()[1],
        }
        assert answering.connections == hanging.connections == 0


def test_open_closed_and_hanging_inner_services_look_the_same(
    settings: Any, ports: dict[str, int]
) -> None:
    """Attempts at three kinds of internal service look the same to the project."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "ALLOW_NETWORKS": []}
    api = Client(headers={"x-api-key": factories.make_api_key(project_id=SCOPE)[1]})
    owed = {
        kind: publish(f"http://inner.example.net:{port}/", subject=kind)
        for kind, port in ports.items()
    }
    with running_engine(resolver=StubResolver({"inner.example.net": ["127.0.0.1"]})):
        for event in owed.values():
            wait_until(lambda event=event: status_of(event) == "dead")
    answer = api.get("/api/v1/webhooks/deliveries")
    shown = answer.json()["results"]
    assert {row["task_id"] for row in shown} == set(owed)
    first, *others = [{k: v for k, v in row.items() if k not in OWN} for row in shown]
    assert others == [first, first]
    assert (first["error_code"], first["phases"]) == ("blocked_address", {})
    assert (first["response_status"], first["response_headers"]) == (None, {})
    assert not first["response_body"]
    # Not by the time that it took either: nothing was dialled.
    assert max(row["duration_ms"] for row in shown) < 200
    for word in (b"127.0.0.1", b"inner secret", b"X-Inner"):
        assert word not in answer.content
