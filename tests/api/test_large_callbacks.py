"""Does a provider's long call come past the limit of other requests, and nobody else's?"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from django.conf import settings

from tasks_app.models import RemoteJob
from tests.support.remote_work import TYPE, begin
from tests.support.server import WebServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

MOST_BYTES = 4 << 20
PROVIDERS = {TYPE: {"provider": "cog", "options": {"model": "noise"}}}


@pytest.fixture(scope="module")
def web(django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    """One web process."""
    here = {"GENERATION_PROVIDERS": json.dumps(PROVIDERS), "COG_BASE_URL": "http://127.0.0.1:9"}
    limits = {"PROVIDER_CALLBACK_MAX_BYTES": str(MOST_BYTES), "BODY_TIMEOUT_SECONDS": "4"}
    with django_db_blocker.unblock(), WebServer(processes=1, **here, **limits) as web:
        yield web


@pytest.fixture
def job(web: WebServer, settings: Any) -> RemoteJob:
    """A job at a Cog server that is never asked."""
    settings.GENERATION_PROVIDERS, settings.COG_BASE_URL = PROVIDERS, "http://127.0.0.1:9"
    return RemoteJob.objects.get(task=begin())


def address(job: RemoteJob) -> str:
    return f"/api/v1/providers/cog/callback/{job.callback_token}"


def prediction(length: int) -> bytes:
    """Return a call of about that length."""
    return json.dumps({"status": "succeeded", "output": "x" * length}).encode()


def called(job: RemoteJob) -> Any:
    job.refresh_from_db()
    return job.remote.get("called")


def head(path: str, *lines: str) -> bytes:
    fixed = ("Host: 127.0.0.1", "Connection: close", "Content-Type: application/json")
    return "\r\n".join((f"POST {path} HTTP/1.1", *fixed, *lines, "", "")).encode()


def test_a_long_call_is_stored_once(web: WebServer, job: RemoteJob) -> None:
    """Three mebibytes are kept with and without an announced length; a second call is not."""
    body = prediction(3 << 20)
    assert web.call("POST", address(job), body).status == 204
    assert len(called(job)["output"]) == 3 << 20
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(prediction(2 << 20)), prediction(2 << 20))
    sent = head(address(job), "Transfer-Encoding: chunked") + chunked
    assert web.raw(sent).startswith(b"HTTP/1.1 204")
    assert len(called(job)["output"]) == 3 << 20
    other = RemoteJob.objects.get(task=begin())
    sent = head(address(other), "Transfer-Encoding: chunked") + chunked
    assert web.raw(sent).startswith(b"HTTP/1.1 204")
    assert len(called(other)["output"]) == 2 << 20


def test_a_call_above_the_limit_says_so_on_its_job(web: WebServer, job: RemoteJob) -> None:
    """What is too long is not read, with or without an announced length; its job learns of it."""
    assert web.raw(head(address(job), "Content-Length: 9999999999"))[:12] == b"HTTP/1.1 204"
    assert called(job) == {"status": "oversized"}
    other = RemoteJob.objects.get(task=begin())
    body = prediction(MOST_BYTES)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    web.raw(head(address(other), "Transfer-Encoding: chunked") + chunked)
    assert called(other) == {"status": "oversized"}


def test_a_call_for_no_job_is_answered_without_its_body(web: WebServer, job: RemoteJob) -> None:
    """Whoever does not know a token gets nothing read: the answer comes before the body."""
    path = address(job).replace(job.callback_token, "0" * 48)
    assert web.raw(head(path, f"Content-Length: {MOST_BYTES}"))[:12] == b"HTTP/1.1 204"
    assert called(job) is None


def answered(web: WebServer, path: str) -> int | None:
    """Make a long call; return its answer, None where that was lost with the rest of the body."""
    try:
        return web.call("POST", path, prediction(3 << 20)).status
    except (BrokenPipeError, ConnectionResetError):  # refused before it was sent
        return None


def test_calls_that_hang_take_no_others_seat(web: WebServer, job: RemoteJob) -> None:
    """Two silent callers fill the seats: a third long call hears 503, then there is room again."""
    nobody = address(job).replace(job.callback_token, "0" * 48)
    silent = head(address(job), f"Content-Length: {MOST_BYTES}")
    with ExitStack() as stack:
        for _ in range(settings.PROVIDER_CALLBACK_SEATS):
            one = stack.enter_context(closing(socket.create_connection(("127.0.0.1", web.port))))
            one.sendall(silent + b"{")
        # For no job, so that one that comes before the others changes nothing.
        wait_until(lambda: answered(web, nobody) == 503)
        assert web.call("POST", address(job), b"{}").status == 204
        assert one.recv(12) == b"HTTP/1.1 408"
    assert called(job) is None
    wait_until(lambda: answered(web, address(job)) == 204)


def test_a_call_that_breaks_off_is_no_result(web: WebServer, job: RemoteJob) -> None:
    """Half a call is not stored, and the whole one that follows is."""
    body = prediction(3 << 20)
    with closing(socket.create_connection(("127.0.0.1", web.port))) as caller:
        caller.sendall(head(address(job), f"Content-Length: {len(body)}") + body[: 2 << 20])
    assert called(job) is None
    assert web.call("POST", address(job), body).status == 204
    assert len(called(job)["output"]) == 3 << 20
