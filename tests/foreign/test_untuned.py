"""Does an untuned PostgreSQL compile none of our statements, and stay idle when we are?

On Debian's, as `initdb` leaves it: its JIT compiler takes half a second for a plan that it thinks
dear, which once was every claim of every engine, each second.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import psutil
import pytest
from django.db import connection, transaction
from django.utils import timezone

from tasks_app.state.submit import Submit, submit
from tasks_app.upkeep.sweep import sweep
from tasks_app.work import run
from tests.support import factories, processes
from tests.support.answers import hang
from tests.support.receiver import Receiver
from tests.support.running import CLAIM_AND_DIE, SCOPE, publish, publish_many, running_engine
from tests.support.servers.postgres import Postgres
from tests.support.waiting import wait_until
from tests.webhooks.conftest import receiver  # noqa: F401 - a fixture
from webhooks_app import metrics, outbox
from webhooks_app.functions import Function
from webhooks_app.models import WebhookDestination, WebhookEvent, WebhookMessage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("foreign_database", ["debian"], indirect=True),
]
#: The server then logs each plan that was run, those inside of functions too.
EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
}
#: What a plan in the log ends with whose expressions were compiled.
COMPILED = "\tJIT:"
Plans = Callable[[], list[str]]


@pytest.fixture
def plans(foreign_database: Postgres) -> Iterator[Plans]:
    """A function that returns all plans that were run in this test, each as one text."""
    name = connection.settings_dict["NAME"]
    for setting, value in EXPLAIN.items():
        foreign_database.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    connection.close()  # sessions that begin from now on are explained
    log = foreign_database.folder / "server.log"
    seen = log.stat().st_size

    def read() -> list[str]:
        said = log.read_bytes()[seen:].decode(errors="replace")
        return re.split(r" LOG:  duration: [\d.]+ ms  plan:\n", said)[1:]

    yield read
    connection.close()
    foreign_database.execute(f"ALTER DATABASE {name} RESET ALL")


def missing(plans: list[str]) -> list[str]:
    """Return our functions for which no plan of the statement was found."""
    ran = " ".join(" ".join(plans).split())
    known = Function.known.values()
    return [each.name for each in known if " ".join(each.statement.split()) not in ran]


def test_compiling_would_be_seen(plans: Plans) -> None:
    """The compiler is there, and what it compiles is in the log."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL jit_above_cost = 0")
        cursor.execute("SELECT count(*) FROM generate_series(1, 10)")
    assert len([plan for plan in plans() if COMPILED in plan]) == 1


def test_nothing_is_compiled_for_us(
    plans: Plans,
    receiver: Receiver,  # noqa: F811
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of our functions and its callers run uncompiled: JIT compiles no plan of the whole path.

    Submit, publish, claim, a retry, a recovery, a look for older events, order, sweep, readiness.
    """
    monkeypatch.setattr("webhooks_app.delivery.engine.DRAIN_SECONDS", 0.1)
    provider = {"image_generation": "tests.support.providers.StillProvider"}
    settings.GENERATION_PROVIDERS = provider  # type: ignore[attr-defined]
    receiver.answer(500, 200)
    publish_many(receiver.url, 3, prefix="interrupted")
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_AND_DIE)
    publish_many(receiver.url, 10)
    publish("https://disabled.example.org/x", subject="disabled")
    disabled = WebhookDestination.objects.filter(host="disabled.example.org")
    assert disabled.update(disabled_at=timezone.now()) == 1
    publish(receiver.url, subject="second", sequence=2)
    submit(Submit("p", "image_generation", {"prompt": "x"}))
    factories.make_endpoint(receiver.url, scope=SCOPE, ordered=True)
    first, *_ = (
        publish(receiver.url, subject="ordered", sequence=number, is_terminal=False)
        for number in (1, 2, 3)
    )
    # The second may go then, and after it the third.
    outbox.acknowledge(WebhookEvent.objects.filter(pk=first.pk))
    # One is under way all the time: attempts whose message has ended are looked for only then.
    with Receiver([hang()]) as hanging, running_engine():
        publish(hanging.url, subject="hanging")
        run.run_next("image_generation")
        sweep()
        metrics.oldest_due()
        delivered = WebhookMessage.objects.filter(status="delivered")
        wait_until(lambda: delivered.count() == 17, timeout=30)
        wait_until(lambda: not missing(plans()), 30, lambda: f"{missing(plans())} ran")
    assert [plan for plan in plans() if COMPILED in plan] == []


IDLE_SECONDS = 4.0
#: Of a core. Measured: 0.003 over minutes, up to 0.01 here, and 0.3 while the claim was compiled.
MOST = 0.03


def test_database_rests_while_an_engine_waits(
    foreign_database: Postgres,
    receiver: Receiver,  # noqa: F811
) -> None:
    """A message is due in an hour: until then the server uses next to none of its processor."""
    publish(receiver.url)
    WebhookMessage.objects.update(next_attempt_at=timezone.now() + timedelta(hours=1))
    shares: list[float] = []

    def rests() -> bool:
        shares.append(share_of_a_core(foreign_database))
        return shares[-1] < MOST

    with running_engine():
        wait_until(last_look)
        # The server's own chores may fall into one measurement, but not into each.
        wait_until(rests, timeout=5 * IDLE_SECONDS, message=lambda: f"shares of a core: {shares}")


def share_of_a_core(server: Postgres) -> float:
    """Return what the server's processes use of a core, over some seconds and looks of an engine.

    Processor time, whatever else the machine does meanwhile.
    """
    assert server.process
    postmaster, looked_at = psutil.Process(server.process.pid), last_look()
    before, began = processes.cpu_seconds(postmaster), time.monotonic()
    wait_until(lambda: time.monotonic() - began >= IDLE_SECONDS, timeout=2 * IDLE_SECONDS)
    used, elapsed = processes.cpu_seconds(postmaster) - before, time.monotonic() - began
    assert last_look() > looked_at, "the engine looks for what is due"
    return used / elapsed


def last_look() -> object:
    """Return when the engine last asked for what is due."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'webhook-claim'"
        )
        return cursor.fetchone()[0]
