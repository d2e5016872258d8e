"""Do the admin's pages stay fast when the tables are long? Asked of PostgreSQL, not of a clock.

Every statement that a page sends is run again under EXPLAIN ANALYZE: none may touch more rows of
a big table than a page and a bounded count need.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app.models import RemoteJob, RemoteServer
from tests.support import crowd, factories
from webhooks_app.admin.dashboard import RANGES
from webhooks_app.admin.lists import FAILING_ANSWERS
from webhooks_app.models import WebhookMessage

#: SCALE_ROWS=1000000 asks the same of a million, which takes some minutes.
ROWS = int(os.environ.get("SCALE_ROWS", "30000"))
#: A page, a count that stops at 1,000, and what filters leave out on the way to them.
MOST_ROWS = max(20_000, ROWS // 20)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk through the nodes of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def touched(node: dict[str, Any]) -> float:
    """Return how many rows a node read, over all its loops."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def too_much(sql: str, most: int) -> list[str]:
    """Return what is wrong with a statement's plan."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}")
        found = cursor.fetchone()[0]
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return [
        f"{node['Node Type']} of {touched(node):.0f} rows of {node['Relation Name']}"
        for node in nodes(plan)
        if node.get("Relation Name") in crowd.BIG and touched(node) > most
    ]


def faults_of(fetch: Callable[[], Any], name: str, most: int = MOST_ROWS) -> list[str]:
    """Fetch a page and return its statements that read too much."""
    began = time.monotonic()
    with CaptureQueriesContext(connection) as captured:
        answer = fetch()
    taken = 1000 * (time.monotonic() - began)
    print(f"{taken:6.0f} ms  {len(captured):2} queries  {name}")
    assert answer.status_code == 200, name
    reading = [q["sql"] for q in captured if q["sql"].lstrip().startswith(("SELECT", "WITH"))]
    statements = [sql for sql in reading if any(table in sql for table in crowd.BIG)]
    return [f"{name}: {fault}\n  {sql}" for sql in statements for fault in too_much(sql, most)]


#: Every kind of word: what is there, what is common, and what is not there at all.
SEARCHES = [
    *("29999", "msg_000000029999", "msg_0000000299", "project-7", "host-project-7", "host-pro"),
    *("nobody.example.org", "host-project-7.example.org:443", "https://nobody.example.org/"),
    *("00000000-0000-4000-8000-000000029999", "00000000-0000-4000-8000-999999999999"),
    *("task=00000000-0000-4000-8000-00000002", "request-29999", "request=none"),
    *("userId=29999", "userId=none", "env=prod", "team=3", "metadata=none=none"),
]
#: Lists that are searched in the same words.
SEARCHED = (
    "tasks_app_remotejob",
    "webhooks_app_replayjob",
    "webhooks_app_webhookdestination",
    "webhooks_app_operatoraction",
)


MESSAGE, DELIVERY = "webhooks_app_webhookmessage", "webhooks_app_webhookdelivery"
TASK, JOB = "tasks_app_task", "tasks_app_remotejob"


def lists() -> Iterator[tuple[str, dict[str, str]]]:
    """Return every list with every filter it offers and every kind of search."""
    for name in (MESSAGE, DELIVERY, TASK, *SEARCHED):
        yield from ((name, {"q": term}) for term in SEARCHES)
    yield from _of_webhooks()
    yield from _of_tasks_and_jobs()
    for state in ("running", "finished", "cancelled"):
        yield "webhooks_app_replayjob", {"state": state}
    for name in (MESSAGE, TASK, JOB, DELIVERY):
        yield name, {}
        yield name, {"p": "20"}
        yield name, {"_facets": "True"}
        yield from ((name, {"since": hours}) for hours in ("1", "168"))
    yield from ((f"webhooks_app_{name}", {}) for name in ("operatoraction", "replayjob"))
    record = "webhooks_app_operatoraction"
    for query in ({"actor": "mara"}, {"action": "prune"}, {"since": "1"}, {"q": "actor=mara"}):
        yield record, query
    for query in ({"q": "mara"}, {"q": "action=prune"}, {"q": "target=message 29999"}):
        yield record, query
    for place in ({}, {"health": "held"}, {"health": "muted"}, {"q": "host-project-7"}):
        yield "webhooks_app_webhookdestination", place
    yield from ((name, {}) for name in ("webhooks_app_webhookendpoint", "tasks_app_apikey"))


def _of_webhooks() -> Iterator[tuple[str, dict[str, str]]]:
    for status in ("pending", "delivered", "dead", "superseded"):
        yield MESSAGE, {"status": status}
    for event_type in ("task.completed", "task.failed", "task.cancelled", "webhook.ping"):
        yield MESSAGE, {"event_type": event_type}
    for code in ("http_status", "tls"):
        yield MESSAGE, {"last_error_code": code}
        yield DELIVERY, {"error_code": code}
    for answer in (FAILING_ANSWERS[0][0], "500"):
        yield MESSAGE, {"last_status_code": answer}
        yield DELIVERY, {"response_status": answer}
    yield MESSAGE, {"status": "delivered", "last_error_code": "tls"}
    yield MESSAGE, {"status": "dead", "event_type": "task.failed"}
    yield MESSAGE, {"status": "dead", "since": "1"}
    yield MESSAGE, {"event_type": "task.failed", "since": "1"}
    for outcome in ("pending", "succeeded", "failed", "interrupted"):
        yield DELIVERY, {"outcome": outcome}
    for event_type in ("task.completed", "webhook.ping"):
        yield DELIVERY, {"event_type": event_type}
    for trigger in ("replay", "ping"):
        yield DELIVERY, {"trigger": trigger}


def _of_tasks_and_jobs() -> Iterator[tuple[str, dict[str, str]]]:
    for status in ("queued", "completed", "failed", "cancelled"):
        yield TASK, {"status": status}
    for kind in ("video_generation", "audio_generation"):
        yield TASK, {"task_type": kind}
    yield TASK, {"status": "failed", "task_type": "audio_generation"}
    for state in ("dead", "pending", "superseded"):
        yield TASK, {"webhook": state}
    for care in ("stop", "unstopped", "unclear"):
        yield JOB, {"care": care}
    for state in ("running", "stopping", "ended"):
        yield JOB, {"state": state}
    for outcome in ("completed", "failed", "unclear", "late"):
        yield JOB, {"outcome": outcome}
        yield JOB, {"outcome": outcome, "provider": "fal"}
    for provider in ("comfyui", "fal", "replicate"):
        yield JOB, {"provider": provider}
        yield JOB, {"provider": provider, "since": "1"}
    for server in ("comfyui/gpu-1", "fal/fal", "replicate/never-used"):
        yield JOB, {"server": server}
        yield JOB, {"server": server, "care": "unclear"}
    yield "tasks_app_remoteserver", {}


REPLAY_FILTERS: list[dict[str, str]] = [
    {"status": "dead"},
    {"status": "any"},
    {"status": "any", "error_code": "tls"},
    {"status": "any", "status_code": "410"},
    {"status": "any", "host": "nobody.example.org"},
    {"status": "any", "event": "webhook.ping"},
    {"status": "dead", "project": "project-7"},
    {"status": "any", "metadata": "userId=29999"},
    {"status": "any", "metadata": "userId=none"},
    {"status": "any", "request_id": "request-29999"},
    {"status": "any", "task": "00000000-0000-4000-8000-000000029999"},
    {"status": "dead", "since": "2020-01-01T00:00:00", "until": "2020-02-01T00:00:00"},
]


@pytest.mark.django_db(transaction=True)
def test_no_page_reads_a_long_table_from_end_to_end(admin_client: Client) -> None:
    """Shows, for every list, filter, search, page and chart, that an index limits what is read."""
    crowd.fill(ROWS)
    faults: list[str] = []
    for name, query in lists():
        address = reverse(f"admin:{name}_changelist")
        faults += faults_of(lambda: admin_client.get(address, query), f"{name} {query}")  # noqa: B023
    latest = WebhookMessage.objects.order_by("-id").select_related("event")[0]
    rows = {
        "webhooks_app_webhookmessage": latest.pk,
        "tasks_app_task": latest.event.subject,
        "tasks_app_remotejob": RemoteJob.objects.latest("created_at").pk,
        "tasks_app_remoteserver": RemoteServer.objects.get(label="gpu-1").pk,
        "webhooks_app_webhookdestination": latest.destination_id,
        "webhooks_app_webhookendpoint": factories.make_endpoint().pk,
        "webhooks_app_replayjob": factories.make_replay().pk,
    }
    for name, key in rows.items():
        address = reverse(f"admin:{name}_change", args=[key])
        faults += faults_of(lambda: admin_client.get(address), address)  # noqa: B023
    for name, chosen in RANGES.items():
        share = chosen.bucket_seconds * chosen.buckets / timedelta(days=30).total_seconds()
        most = max(MOST_ROWS, int(1.1 * share * ROWS))  # what lies in the range, and no more
        asked = {"range": name}
        faults += faults_of(
            lambda: admin_client.get(reverse("admin:index"), asked),  # noqa: B023
            f"dashboard {name}",
            most,
        )
    form = reverse("admin:webhooks_app_webhookmessage_replay_with_filter_form")
    for query in REPLAY_FILTERS:
        asked = {"reason": "a look", **query}
        faults += faults_of(lambda: admin_client.post(form, asked), f"replay {query}")  # noqa: B023
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
