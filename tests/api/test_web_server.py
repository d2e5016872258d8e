"""Does the API keep its promises through the real web server, across two of its processes?"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from django.db import connection

from tasks_app import redis_gate, tickets
from tasks_app.models import ApiKey, Task
from tasks_app.task_types import TASK_TYPES
from tasks_app.upkeep import sweep
from tests import ROOT
from tests.support import factories
from tests.support.server import Answer, WebServer, no_renders
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]
SUBMIT = "/api/v1/tasks/submit"
STREAMS = 2
BODY = {**factories.SEED_REQUEST, "task_data": {"prompt": "a lamp"}}
Servers = tuple[WebServer, WebServer]


@pytest.fixture(scope="module")
def servers(django_db_setup: None, django_db_blocker: Any) -> Iterator[Servers]:
    """Two servers of one process each, which share only PostgreSQL and Redis."""
    environment = {"SSE_STREAMS": str(STREAMS), "SSE_MAX_SECONDS": "20", **no_renders()}
    with (
        django_db_blocker.unblock(),
        WebServer(processes=1, **environment) as first,
        WebServer(processes=1, **environment) as second,
    ):
        yield first, second


def problem_of(answer: Answer) -> dict[str, Any]:
    """Return the problem in an answer, after checking its form."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.content
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status
    return problem


def test_concurrent_repeats_of_ten_keys_are_ten_tasks(servers: Servers, api_key: str) -> None:
    """50 at once with each of 10 keys: one makes the task, 49 are repeats; Redis is not used."""

    def once(number: int) -> Answer:
        if number % 100 == 0:
            redis_gate.client().flushdb()
        headers = {"Idempotency-Key": f"key-{number % 10}"}
        return servers[number % 2].call("POST", SUBMIT, BODY, key=api_key, headers=headers)

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(once, range(500)))
    assert {answer.status for answer in answers} == {201}
    by_task = Counter(answer.json()["task_id"] for answer in answers)
    assert sorted(by_task.values()) == [50] * 10
    replayed = [answer for answer in answers if answer.headers.get("Idempotent-Replayed")]
    assert (len(replayed), Task.objects.count()) == (490, 10)
    other = {**BODY, "priority": "low"}
    answer = servers[0].call(
        "POST", SUBMIT, other, key=api_key, headers={"Idempotency-Key": "key-1"}
    )
    assert problem_of(answer)["code"] == "idempotency_conflict"


def test_one_limit_holds_for_both_processes(servers: Servers) -> None:
    """Both servers share a key's limit; requests beyond it get Retry-After."""
    key = factories.make_api_key(rate_limit_per_minute=12)[1]
    answers = [servers[number % 2].call("GET", "/api/v1/tasks", key=key) for number in range(30)]
    taken = [answer for answer in answers if answer.status == 200]
    assert len(taken) in (12, 13), "a token comes back every five seconds"
    assert taken[0].headers["RateLimit-Limit"] == "12"
    assert taken[0].headers["RateLimit-Remaining"] == "11"
    refused = answers[-1]
    assert problem_of(refused)["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    assert refused.headers["RateLimit-Remaining"] == "0"


def test_a_revoked_key_opens_neither_process(servers: Servers, api_key: str) -> None:
    """A second after it is revoked a key is refused by every process and thread."""

    def once(number: int) -> tuple[float, int]:
        begin = time.monotonic()
        return begin, servers[number % 2].call("GET", "/api/v1/tasks", key=api_key).status

    with ThreadPoolExecutor(8) as pool:
        assert {status for _, status in pool.map(once, range(32))} == {200}
        ApiKey.objects.filter(prefix=api_key[:8]).update(revoked=True)
        revoked_at = time.monotonic()
        answers = []
        while time.monotonic() < revoked_at + 1.5:
            answers += pool.map(once, range(32))
    late = {status for begin, status in answers if begin > revoked_at + 1}
    assert late
    assert late <= {401, 429}, "429: an address may not try refused keys without end"


def test_a_lost_database_connection_costs_no_request(servers: Servers, api_key: str) -> None:
    """After PostgreSQL has ended every kept connection, the next requests are answered."""

    def statuses() -> set[int]:
        return {servers[0].call("GET", "/api/v1/tasks", key=api_key).status for _ in range(16)}

    assert statuses() == {200}
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    def ask(question: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {question} {others}")
            return int(cursor.fetchone()[0])

    assert ask("count(pg_terminate_backend(pid))") >= 1
    wait_until(lambda: ask("count(*)") == 0, message="PostgreSQL has ended them")
    assert statuses() == {200}


def head(key: str, *lines: str) -> bytes:
    """The head of a submit, up to the empty line."""
    fixed = ("POST /api/v1/tasks/submit HTTP/1.1", "Host: 127.0.0.1", "Connection: close")
    lines = (*fixed, f"X-API-Key: {key}", *lines)
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_chunked_body_over_the_limit_is_413(servers: Servers, api_key: str) -> None:
    """A body without a length is counted while it is read."""
    kind = "Content-Type: application/json"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    request = head(api_key, kind, "Transfer-Encoding: chunked") + chunk * 40 + b"0\r\n\r\n"
    answer = servers[0].raw(request)
    assert answer.startswith(b"HTTP/1.1 413"), answer[:300]
    assert b"application/problem+json" in answer


def test_a_long_content_type_is_431(servers: Servers, api_key: str) -> None:
    """Django would spend a third of a second on 65,536 semicolons, before any view or limit."""
    body = json.dumps(BODY).encode()
    lines = (f"Content-Type: application/json{';' * 65_536}", f"Content-Length: {len(body)}")
    answer = servers[0].raw(head(api_key, *lines) + body)
    assert answer.startswith(b"HTTP/1.1 431"), answer[:300]
    assert b"headers_too_long" in answer


def test_a_chunked_body_within_the_limit_is_taken(servers: Servers, api_key: str) -> None:
    """A chunked body is accepted."""
    body = json.dumps(BODY).encode()
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    kind = "Content-Type: application/json"
    answer = servers[0].raw(head(api_key, kind, "Transfer-Encoding: chunked") + chunk)
    assert answer.startswith(b"HTTP/1.1 201"), answer[:300]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Content-Type: application/json", "Content-Encoding: gzip"], 415),
        (["Content-Type: text/plain"], 415),
        (["Content-Type: application/json", "X-HTTP-Method-Override: DELETE"], 422),
        (["Content-Type: application/json", "X-API-Key: abcdefgh.abcdefghabcdefgh"], 401),
    ],
)
def test_headers_that_change_the_meaning_are_refused(
    servers: Servers, api_key: str, headers: list[str], status: int
) -> None:
    """A compressed body, another type, a second key are refused; a method override is ignored."""
    answer = servers[0].raw(head(api_key, *headers, "Content-Length: 2") + b"{}")
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer[:300]
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 2", "Content-Length: 3"], 400),
        (["Content-Length: -1"], 400),
        (["Content-Length: 99999999999999999999"], 400),
        (["Content-Length: 3000000"], 413),
        (["X-A : a"], 400),
        (["X-A: a\0b"], 400),
        (["X-A: a", " b"], 400),
        (["Idempotency-Key: a\0"], 400),
        (["X-A: " + "a" * 1_000_000], 431),
        ([f"X-{number}: a" for number in range(1_000)], 431),
    ],
    ids=lambda value: str(value)[:30],
)
def test_heads_that_can_be_read_in_two_ways_are_refused(
    servers: Servers, api_key: str, lines: list[str], status: int
) -> None:
    """Contradicting lengths, folded and broken lines, endless heads; the server keeps working."""
    request = head(api_key, "Content-Type: application/json", *lines) + b"{}"
    answer = servers[0].raw(request)
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer[:300]
    assert servers[0].call("GET", "/api/v1/health").status == 200
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "line",
    ["X_API_Key: {}", "X_Api-Key: {}", "x-api_key: {}"],
)
def test_a_name_with_an_underscore_is_no_header(servers: Servers, api_key: str, line: str) -> None:
    """A header with underscores never counts as the one with dashes, alone or beside it."""
    ask = ["GET /api/v1/tasks HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    wrong, right = line.format("wrong"), f"X-API-Key: {api_key}"
    for lines, status in (
        ([line.format(api_key)], 401),
        ([wrong, right], 200),
        ([right, wrong], 200),
    ):
        answer = servers[0].raw("\r\n".join([*ask, *lines, "", ""]).encode())
        assert answer.startswith(b"HTTP/1.1 %d" % status), (lines, answer[:300])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("host", ["Host: 10.1.2.3:8001\r\n", "Host: elsewhere.example\r\n", ""])
def test_probes_are_answered_under_every_host(
    servers: Servers, api_key: str, method: str, host: str
) -> None:
    """Health, readiness and figures work with any or no Host; all else is refused."""
    tail = f" HTTP/1.0\r\nX-API-Key: {api_key}\r\n{host}\r\n"
    for path in ("/api/v1/health", "/api/v1/health/ready", "/metrics"):
        answer = servers[0].raw(f"{method} {path}{tail}".encode())
        assert answer.startswith(b"HTTP/1.0 200"), (path, answer[:300])
    answer = servers[0].raw(f"{method} /api/v1/tasks{tail}".encode())
    # Without a Host the server's own address stands in, which is allowed here.
    assert answer.startswith(b"HTTP/1.0 400" if host else b"HTTP/1.0 200"), answer[:300]


def test_a_length_beside_chunks_smuggles_nothing(servers: Servers, api_key: str) -> None:
    """The body ends after its last chunk; what follows is a request of its own."""
    kind = ("Content-Type: application/json", "Content-Length: 30", "Transfer-Encoding: chunked")
    hidden = b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = servers[0].raw(head(api_key, *kind) + b"2\r\n{}\r\n0\r\n\r\n" + hidden)
    assert answer.startswith(b"HTTP/1.1 422"), answer[:300]
    assert answer.count(b"HTTP/1.1 ") == 1, "the connection was to be closed"


def test_expect_100_continue_gets_its_answer(servers: Servers, api_key: str) -> None:
    """A client that sends Expect: 100-continue gets it, and then its answer."""
    body = json.dumps(BODY).encode()
    request = head(
        api_key,
        "Content-Type: application/json",
        "Expect: 100-continue",
        f"Content-Length: {len(body)}",
    )
    with socket.create_connection(("127.0.0.1", servers[0].port), timeout=10) as connection:
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 201")


def test_head_has_no_body_and_options_no_description(servers: Servers, api_key: str) -> None:
    """HEAD is GET without its body; OPTIONS describes nothing."""
    assert servers[0].call("HEAD", "/api/v1/tasks", key=api_key).content == b""
    assert problem_of(servers[0].call("OPTIONS", "/api/v1/tasks", key=api_key))["status"] == 405
    assert servers[0].call("OPTIONS", "/api/v1/tasks").status == 401


@contextmanager
def watching(server: WebServer, path: str, key: str) -> Iterator[bool]:
    """Ask for a stream and keep it open; say whether there was a seat."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("GET", path, headers={"X-API-Key": key})
        with closing(connection.getresponse()) as response:
            yield response.readline() == b"retry: 2000\n"


def test_watchers_are_bounded_and_keep_nobody_out(servers: Servers, api_key: str) -> None:
    """Without a seat a watcher gets 503 and Retry-After; lists work; a freed seat is used again."""
    path = f"/api/v1/tasks/{factories.make_task().pk}/events"
    with ExitStack() as open_streams:
        for _ in range(STREAMS):
            assert open_streams.enter_context(watching(servers[0], path, api_key))
        refused = servers[0].call("GET", path, key=api_key)
        assert problem_of(refused)["code"] == "too_many_streams"
        assert int(refused.headers["Retry-After"]) > 0
        assert servers[0].call("GET", "/api/v1/tasks", key=api_key).status == 200

    def is_seated() -> bool:
        with watching(servers[0], path, api_key) as is_open:
            return is_open

    wait_until(is_seated, timeout=15, message="a seat that was left is given again")


def test_watchers_leave_threads_to_others_whatever_was_configured(api_key: str) -> None:
    """If more streams are allowed than there are threads, half of the threads still answer."""
    many = {"WEB_THREADS": "4", "SSE_STREAMS": "50", "SSE_STREAMS_PER_KEY": "50"}
    path = f"/api/v1/tasks/{factories.make_task().pk}/events"
    with WebServer(processes=1, **many, **no_renders()) as server, ExitStack() as open_streams:
        seated = [open_streams.enter_context(watching(server, path, api_key)) for _ in range(6)]
        assert seated == [True, True, False, False, False, False]
        assert server.call("GET", "/api/v1/tasks", key=api_key).status == 200


def test_submits_without_redis_are_taken_and_sent_on_later(api_key: str) -> None:
    """Fifty submits wait for nothing (under a second each); later the sweep sends their tickets."""
    nowhere, waits = "redis://127.0.0.1:9/0", []
    with WebServer(processes=1, REDIS_URL=nowhere, **no_renders()) as server:
        for _ in range(50):
            before = time.monotonic()
            assert server.call("POST", SUBMIT, BODY, key=api_key).status == 201
            waits.append(time.monotonic() - before)
    # A busy machine holds some of them up; a wait in the product would show in all.
    assert sorted(waits)[25] < 1
    assert max(waits) < 10
    assert Task.objects.filter(status="queued").count() == 50
    assert sweep.send_tickets() == 50
    assert tickets.waiting_tickets(TASK_TYPES["video_generation"].queue) == 50


def test_without_a_database_every_answer_is_a_problem_with_a_time(api_key: str) -> None:
    """503 and Retry-After for everything that needs the database, without its address."""
    nowhere = "postgresql://postgres@/movies?host=/nonexistent"
    with WebServer(processes=1, DATABASE_URL=nowhere, **no_renders()) as server:
        for method, path, body in (
            ("GET", "/api/v1/tasks", None),
            ("POST", SUBMIT, BODY),
            ("GET", "/api/v1/webhooks/messages", None),
            ("GET", "/api/v1/health/ready", None),
            ("GET", "/media/1/2/3", None),
        ):
            answer = server.call(method, path, body, key=api_key)
            assert problem_of(answer)["status"] == 503, (path, answer.content)
            assert int(answer.headers["Retry-After"]) > 0
            assert b"nonexistent" not in answer.content
        assert server.call("GET", "/api/v1/tasks").status == 401


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")
def test_every_example_of_the_api_page_works(api_key: str) -> None:
    """The page's shell blocks run from top to bottom, and no curl in them gets an error."""
    page = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert "".join(blocks).count("curl ") > 15
    strict = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; echo; }\n'
    with WebServer(processes=1, SSE_MAX_SECONDS="0.5", **no_renders()) as server:
        run = subprocess.run(
            ["bash", "-c", strict + "".join(blocks)],
            env={**os.environ, "URL": server.url, "API_KEY": api_key},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.returncode == 0, run.stdout[-2_000:] + run.stderr
