"""What happens while the database takes no writes, as after a failover, and what afterwards?

On Debian's PostgreSQL: read-only for all (a demoted primary), or for the sessions of one time
only (stale ones, which answer every health check and stay read-only for as long as they live).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from tasks_app.middleware import SweepMiddleware
from tasks_app.models import MediaFile, Task
from tasks_app.state.submit import Submit
from tasks_app.state.submit import submit as submit_task
from tasks_app.tickets import stopping
from tasks_app.work import run_next
from tests.foreign.conftest import django_at
from tests.support import factories
from tests.support.answers import Answer, Connection
from tests.support.receiver import Receiver
from tests.support.running import SCOPE, attempts_of, publish, running_engine, status_of
from tests.support.server import Answer as Reply
from tests.support.server import WebServer, no_renders
from tests.support.servers import postgres
from tests.support.servers.postgres import Postgres
from tests.support.waiting import wait_until
from tests.webhooks.conftest import count_logged, receiver  # noqa: F401 - fixtures
from webhooks_app.signing.store import get_or_create

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("foreign_database"),
    pytest.mark.parametrize("foreign_database", ["debian"], indirect=True),
]
SUBMIT = "/api/v1/tasks/submit"
READY = "/api/v1/health/ready"
READ_ONLY = "The database is read-only."


@contextmanager
def read_only(server: Postgres) -> Iterator[None]:
    """Let no session write until the end of the block."""
    server.set("default_transaction_read_only", "on")
    wait_until(lambda: server.execute("SHOW transaction_read_only") == [("on",)])
    try:
        yield
    finally:
        server.set("default_transaction_read_only", None)
        wait_until(lambda: server.execute("SHOW transaction_read_only") == [("off",)])


def make_stale(server: Postgres, change: Callable[[], Any]) -> None:
    """Do ``change`` with sessions that began while the database was read-only and stay so."""
    name = connection.settings_dict["NAME"]
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    try:
        change()
    finally:
        server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        connection.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    """One web process of four threads."""
    with WebServer(processes=1, WEB_THREADS="4", **no_renders()) as server:
        yield server


def submit(web: WebServer, key: str) -> Reply:
    """Send the request of the contract."""
    body = {**factories.SEED_REQUEST, "task_data": {"prompt": "a lamp"}}
    return web.call("POST", SUBMIT, body, key=key)


def is_refused(answer: Reply, code: str) -> bool:
    """Tell whether the answer is the 503 of a read-only database."""
    said = answer.json()
    is_problem = answer.headers["Content-Type"] == "application/problem+json"
    is_told = said["code"] == code and said["detail"].startswith(READ_ONLY)
    return (
        answer.status == 503 and is_problem and is_told and int(answer.headers["Retry-After"]) > 0
    )


def test_submits_wait_for_a_database_that_takes_writes(
    foreign_database: Postgres, web: WebServer, api_key: str
) -> None:
    """503 with Retry-After while read-only; reads and a new key still work; afterwards 201."""
    with read_only(foreign_database):
        assert is_refused(submit(web, api_key), "unavailable")
        assert web.call("GET", "/api/v1/tasks", key=api_key).status == 200
        assert is_refused(web.call("GET", READY), "not_ready")
        assert is_refused(web.call("GET", READY, key=api_key), "not_ready")
        assert web.call("GET", "/api/v1/health").status == 200
    assert submit(web, api_key).status == 201
    assert web.call("GET", READY).status == 200


def test_stale_sessions_are_renewed_by_themselves(
    foreign_database: Postgres, web: WebServer, api_key: str
) -> None:
    """Sessions that stay read-only cost one refusal each; readiness notices their recovery."""

    def use_every_thread() -> None:
        # What ended a session is seen by its next request, which begins another.
        for _ in range(12):
            assert is_refused(submit(web, api_key), "unavailable")
        assert is_refused(web.call("GET", READY), "not_ready")

    make_stale(foreign_database, use_every_thread)
    refused = [status for _ in range(20) if (status := submit(web, api_key).status) != 201]
    assert set(refused) <= {503}
    assert len(refused) <= 4, "no more than there are threads"
    assert submit(web, api_key).status == 201
    wait_until(lambda: web.call("GET", READY).status == 200, timeout=3)


def test_outcome_that_came_while_it_was_read_only_is_recorded_and_sent_once(
    foreign_database: Postgres,
    receiver: Receiver,  # noqa: F811
    count_logged: Callable[[str], int],  # noqa: F811
) -> None:
    """An answer waits for the database longer than its lease lasts; nothing is sent again."""
    is_read_only = threading.Event()
    receiver.answer(answer_after(is_read_only), 200)
    with running_engine():
        event = publish(receiver.url)
        receiver.wait_for(1)
        with read_only(foreign_database):
            is_read_only.set()
            end_leases(foreign_database)
            wait_until(lambda: count_logged("Outcomes wait for the database") > 2)
        wait_until(lambda: status_of(event) == "delivered")
        later = publish(receiver.url, subject="later")
        wait_until(lambda: status_of(later) == "delivered")
    assert [attempt.outcome for attempt in attempts_of(event)] == ["succeeded"]
    assert len(receiver.requests) == 2
    assert count_logged("crashed") == 0


def answer_after(event: threading.Event) -> Answer:
    """Answer 200 as soon as something has happened."""

    async def behave(connection: Connection) -> None:
        while not event.is_set():
            await asyncio.sleep(0.01)
        await connection.send(Answer().head() + Answer().body)

    return Answer(behave=behave)


def end_leases(server: Postgres) -> None:
    """Make every lease expire, in a transaction that writes in spite of the default."""
    over = "lease_expires_at = now() WHERE lease_expires_at IS NOT NULL"
    server.execute(
        f"BEGIN READ WRITE; UPDATE webhooks_app_webhookmessage SET {over};"
        f" UPDATE tasks_app_task SET {over}; COMMIT",
        connection.settings_dict["NAME"],
    )


def test_stale_sessions_of_an_engine_are_renewed_by_themselves(
    foreign_database: Postgres,
    receiver: Receiver,  # noqa: F811
    count_logged: Callable[[str], int],  # noqa: F811
) -> None:
    """An engine whose sessions were all read-only delivers, without a restart."""
    with running_engine():
        make_stale(foreign_database, lambda: wait_until(lambda: count_logged(READ_ONLY) > 2))
        event = publish(receiver.url)
        wait_until(lambda: status_of(event) == "delivered")
    assert count_logged("crashed") == 0


@pytest.fixture
def worker(settings: Any) -> Iterator[None]:
    """The sweep of a worker process, and a scripted render of a second."""
    settings.TASK_LEASE_SECONDS = 1.5
    settings.SWEEP_INTERVAL_SECONDS = 0.2
    settings.GENERATION_PROVIDERS = {
        "image_generation": {
            "provider": "tests.support.providers.StillProvider",
            "options": {"seconds": 1.0},
        }
    }
    stopping.clear()
    sweeper = SweepMiddleware()
    sweeper.after_worker_boot(None, None)  # type: ignore[arg-type]
    yield
    sweeper.after_worker_shutdown(None, None)  # type: ignore[arg-type]
    stopping.clear()


@pytest.mark.parametrize("end", ["completed", "failed"])
@pytest.mark.usefixtures("worker")
def test_finished_work_outlasts_a_read_only_database(
    foreign_database: Postgres,
    settings: Any,
    count_logged: Callable[[str], int],  # noqa: F811
    end: str,
) -> None:
    """A result waits longer than its lease lasts; it is stored, and nothing is rendered again."""
    if end == "failed":
        options = settings.GENERATION_PROVIDERS["image_generation"]["options"]
        options["fail_code"] = "content_refused"
    task = submit_task(Submit("p", "image_generation", {"prompt": "x"})).task
    run = running_in_a_thread(lambda: run_next("image_generation"))
    wait_until(lambda: Task.objects.get(pk=task.pk).status == "processing")
    with read_only(foreign_database):
        end_leases(foreign_database)
        for who in ("Task", "Sweep"):
            wait_until(lambda who=who: count_logged(f"{who} waits for the database"))
    wait_until(lambda: Task.objects.get(pk=task.pk).status == end)
    run.join(10)
    task.refresh_from_db()
    assert (task.lost_count, task.event_sequence) == (0, 1)
    assert MediaFile.objects.count() == (1 if end == "completed" else 0)


def running_in_a_thread(work: Callable[[], None]) -> Any:
    """Start ``work`` in a thread that closes its connection afterwards."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_commit_whose_answer_was_lost_keeps_the_files(
    foreign_database: Postgres, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database ends the session right after the commit: what was stored is not discarded."""
    settings.GENERATION_PROVIDERS = {"image_generation": "tests.support.providers.StillProvider"}
    monkeypatch.setattr("tasks_app.state.lifecycle.faultpoint", end_session_after_commit())
    task = submit_task(Submit("p", "image_generation", {"prompt": "x"})).task
    run_next("image_generation")
    task.refresh_from_db()
    assert (task.status, task.event_sequence) == ("completed", 1)
    (file,) = MediaFile.objects.all()
    assert default_storage.exists(file.path)


def end_session_after_commit() -> Callable[[str], None]:
    """Return what stands in for the fault points: a session that dies at one of them, once."""
    is_done: list[bool] = []

    def faultpoint(name: str) -> None:
        if name == "finish.after_commit" and not is_done:
            is_done.append(True)
            connection.cursor().execute("SELECT pg_terminate_backend(pg_backend_pid())")

    return faultpoint


def test_failover_to_a_standby_needs_no_restart(
    stock_servers: Any, django_db_setup: None, django_db_blocker: Any
) -> None:
    """The primary dies, its standby is promoted: the next submit is taken and its webhook sent."""
    primary = stock_servers("debian")
    database = connection.settings_dict["NAME"]
    with postgres.standby_of(primary) as standby:
        both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = primary.url(database).replace(f"127.0.0.1:{primary.port}", both)
        with django_at(f"{url}?target_session_attrs=read-write", django_db_blocker):
            _moves_over(primary, standby)


def _moves_over(primary: Postgres, standby: Postgres) -> None:
    with (
        WebServer(processes=1, WEB_THREADS="4", **no_renders()) as web,
        Receiver([200], secret=get_or_create(SCOPE)) as target,
        running_engine(),
    ):
        key = factories.make_api_key()[1]
        before = publish(target.url, subject="before")
        wait_until(lambda: status_of(before) == "delivered")
        wait_until(lambda: standby.execute("SELECT pg_is_in_recovery()") == [(True,)])
        try:
            connection.close()
            primary.stop()
            assert submit(web, key).status == 503
            standby.execute("SELECT pg_promote()")
            wait_until(lambda: submit(web, key).status == 201, timeout=20)
            wait_until(lambda: web.call("GET", READY).status == 200)
            after = publish(target.url, subject="after")
            wait_until(lambda: status_of(after) == "delivered")
            assert [attempt.outcome for attempt in attempts_of(before)] == ["succeeded"]
        finally:
            connection.close()
            primary.start()
