"""Are server-sent events read as they are meant, and a stream without end or sense given up?"""

import asyncio

import pytest
from django.test import override_settings

from tests.support import answers
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from webhooks_app.egress import EgressDenied, Home, origin_of
from webhooks_app.transport import Transport, streams

SETTINGS = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"


@pytest.fixture(autouse=True)
def _loopback_allowed():
    with override_settings(WEBHOOKS=SETTINGS):
        yield


def read(receiver, **headers):
    """Return the events of the receiver's stream, and the error that it ended with."""

    async def run():
        found = []
        async with Transport(home=Home(origin_of(receiver.url), ())) as client:
            try:
                async for data in client.events(receiver.url, headers=headers):
                    found.append(data)
            except ConnectionError as error:
                return found, str(error)
        return found, ""

    return asyncio.run(asyncio.wait_for(run(), 60))


def pieces(*parts):
    """Send each part by itself, then close."""

    async def behave(connection):
        for part in parts:
            await connection.send(part)
            await asyncio.sleep(0.02)

    return Answer(behave=behave)


def test_events_are_read_as_the_standard_says():
    """Proves that line ends, comments, several data lines and cuts mean what they should."""
    told = pieces(
        HEAD + b": hello\n\ndata: one\n\nda",
        b"ta:two\r\ndata: more\r",
        b"\n\r\nevent: x\nid: 3\nretry: 10\n\n:\n\ndata\n\ndata: last, without its end\n",
    )
    with Receiver([told]) as receiver:
        assert read(receiver, Authorization="Key k") == ([b"one", b"two\nmore", b""], "")
        [request] = receiver.requests
    assert request.headers["authorization"] == "Key k"
    assert request.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(404), "the answer is no stream of events"),
        (Answer(200, headers=[("Content-Type", "application/json")]), "no stream"),
        (answers.redirect("http://127.0.0.1:1/"), "no stream"),
        (answers.reset(), "closed"),
        (answers.hang(), "no answer in time"),
        (answers.drip(HEAD, b"x" * 50_000, 0), "too much"),
        (answers.drip(HEAD, b"data:" + b"x" * 50_000 + b"\n", 0), "too much"),
        (answers.drip(HEAD, b": nothing\n\n" * 5_000, 0), "too much"),
        (answers.drip(HEAD, b"data\n" * 10_000, 0), "too much"),
    ],
)
def test_no_answer_holds_it_for_ever(answer, reason, monkeypatch):
    """Proves that what is no stream, is silent or has no end is an error, with nothing kept."""
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.3)
    with Receiver([answer]) as receiver:
        found, error = read(receiver)
    assert found == []
    assert reason in error


def test_a_stream_is_of_its_home_alone():
    """Proves that a stream which an answer names elsewhere is not dialled."""

    async def run():
        async with Transport(home=Home(origin_of("http://127.0.0.1:1/"), ())) as client:
            async for _ in client.events("http://127.0.0.2:2/", headers={}):
                pass

    with pytest.raises(EgressDenied):
        asyncio.run(run())
