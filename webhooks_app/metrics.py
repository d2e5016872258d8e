"""Which figures does the webhook app give to Prometheus?

Counters and histograms count what this process does; the project merges the processes' figures.
Gauges are read from the database at each scrape, by statements whose cost does not grow with the
history. No label holds a URL, a task or a message; only a few failing destinations are named.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence

from django.db import connection
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from webhooks_app.functions import Function
from webhooks_app.models import BreakerState, DeliveryOutcome, MessageStatus
from webhooks_app.notation import origin_text
from webhooks_app.outbox import Outcome
from webhooks_app.retry import ERROR_CODES
from webhooks_app.shown import safe_url

#: Messages of one state are counted up to this number, so that the cost of a scrape is bounded.
COUNT_LIMIT = 100_000
#: This many failing destinations are named, those with the most failing messages first.
NAMED_DESTINATIONS = 20
NAMED_CERTIFICATES = 20


class BatchHistogram(Histogram):
    """A histogram that takes many values for little more than the cost of one."""

    def observe_many(self, amounts: list[float]) -> None:
        """Observe all of ``amounts``."""
        bounds = self._upper_bounds
        tally = Tally([bisect_left(bounds, amount) for amount in amounts])
        for index, count in tally.items():
            self._buckets[index].inc(count)
        if amounts:
            self._sum.inc(sum(amounts))


attempts = Counter(
    "webhooks_attempts",
    "Attempts by outcome and error code (empty where there was none).",
    ["outcome", "error_code"],
)
attempt_seconds = BatchHistogram(
    "webhooks_attempt_duration_seconds",
    "From the start of an attempt to its end.",
    ["outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
first_byte_seconds = BatchHistogram(
    "webhooks_completion_to_first_byte_seconds",
    "From the end of a task to the first byte of its first webhook request.",
    ["connection"],
    buckets=(0.005, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 60),
)
finished = Counter(
    "webhooks_messages_finished",
    "Messages that an engine brought to an end, by what they became.",
    ["status"],
)


class _Late:
    """A gauge that only processes with an engine have; created on first use, thread-safe."""

    def __init__(self, name: str, text: str) -> None:
        self._arguments = (name, text)
        self._lock = threading.Lock()
        self._gauge: Gauge | None = None

    def __call__(self) -> Gauge:
        with self._lock:
            if self._gauge is None:
                self._gauge = Gauge(*self._arguments, multiprocess_mode="livesum")
            return self._gauge


in_flight = _Late(
    "webhooks_engine_in_flight", "Requests under way, over all engines of this machine."
)
engines = _Late("webhooks_engines", "Delivery engines of this machine.")


def collectors() -> list[MetricWrapperBase]:
    """Return every metric that processes count in this module."""
    return [attempts, attempt_seconds, first_byte_seconds, finished, in_flight(), engines()]


def prepare() -> None:
    """Create every series, so that each exists with value 0 before anything has happened."""
    attempts.labels("succeeded", "")
    attempts.labels("interrupted", "")
    for name, code in ERROR_CODES.items():
        if code.is_sent:
            attempts.labels("failed", name)
    for outcome in (DeliveryOutcome.SUCCEEDED, DeliveryOutcome.FAILED):
        attempt_seconds.labels(outcome)
    for kind in ("new", "reused"):
        first_byte_seconds.labels(kind)
    for status in (MessageStatus.DELIVERED, MessageStatus.DEAD):
        finished.labels(status)
    collectors()


def count_attempts(outcomes: Sequence[Outcome], moved: set[int]) -> None:
    """Count a batch of recorded attempts; ``moved``: ids of the messages that were changed."""
    tally = Tally([(one.outcome, one.error_code) for one in outcomes])
    for labels, count in tally.items():
        attempts.labels(*labels).inc(count)
    # An interrupted attempt has no end, so no duration.
    for outcome in {outcome for outcome, _ in tally} - {DeliveryOutcome.INTERRUPTED.value}:
        seconds = [(one.duration_ms or 0.0) / 1000 for one in outcomes if one.outcome == outcome]
        attempt_seconds.labels(outcome).observe_many(seconds)
    firsts = [
        (one.latency, "connect_ms" in one.phases) for one in outcomes if one.latency is not None
    ]
    for kind, is_new in (("new", True), ("reused", False)):
        latencies = [latency for latency, has_connected in firsts if has_connected is is_new]
        first_byte_seconds.labels(kind).observe_many(latencies)
    pending = MessageStatus.PENDING.value
    ended = [one for one in outcomes if one.status != pending and one.message_id in moved]
    for status, count in Tally([one.status for one in ended]).items():
        finished.labels(status).inc(count)


def count_dead(count: int) -> None:
    """Count messages that died without an attempt of their own."""
    finished.labels(MessageStatus.DEAD).inc(count)


# -- the database's figures -----------------------------------------------------------------------

# One query per state, with the state as a constant: only then can a partial index be used.
_MESSAGES = " UNION ALL ".join(
    f"SELECT '{status}', (SELECT count(*) FROM (SELECT 1 FROM webhooks_app_webhookmessage"  # noqa: S608 - names of ours
    f" WHERE status = '{status}' LIMIT %(limit)s) counted)"
    for status in MessageStatus.values
)

# One index look-up per destination with pending messages, however many it has; as in the claim.
# Planned once: with statistics that saw no queue, the planner would read and sort all that is
# pending for each destination.
_OLDEST_DUE = Function(
    "webhooks_oldest_due",
    "",
    "TABLE (is_held bool, seconds float8)",
    """
WITH RECURSIVE waiting AS (
  (SELECT destination_id, next_attempt_at FROM webhooks_app_webhookmessage
   WHERE status = 'pending' AND lease_token IS NULL
   ORDER BY destination_id, next_attempt_at LIMIT 1)
  UNION ALL
  SELECT following.destination_id, following.next_attempt_at FROM waiting
  CROSS JOIN LATERAL (
    SELECT destination_id, next_attempt_at FROM webhooks_app_webhookmessage
    WHERE status = 'pending' AND lease_token IS NULL AND destination_id > waiting.destination_id
    ORDER BY destination_id, next_attempt_at LIMIT 1
  ) following
), limited AS (SELECT * FROM waiting LIMIT 10000),
-- An engine has requests open there, so it sends as fast as the receiver lets it.
at_work AS MATERIALIZED (
  SELECT destination_id FROM webhooks_app_webhookmessage
  WHERE id = ANY(ARRAY(
    SELECT message_id FROM webhooks_app_webhookdelivery
    WHERE outcome BETWEEN 'pending' AND 'pending' ORDER BY outcome, id DESC
  )) AND lease_expires_at > now()
), standing AS (
  SELECT limited.next_attempt_at, destination.held_until,
    coalesce(destination.held_until > now(), false)
      OR destination.id IN (SELECT destination_id FROM at_work) AS is_held
  FROM limited CROSS JOIN LATERAL (
    SELECT id, held_until FROM webhooks_app_webhookdestination
    WHERE id = limited.destination_id OFFSET 0) destination
)
-- Nothing holds a message from the end of a hold on, and not from when it fell due.
SELECT is_held, greatest(0, max(extract(epoch FROM now() -
  CASE WHEN is_held THEN next_attempt_at ELSE greatest(next_attempt_at, held_until) END)))::float8
FROM standing GROUP BY 1
""",
    only_if="SELECT FROM (SELECT FROM webhooks_app_webhookmessage WHERE status = 'pending'"
    " ORDER BY destination_id, next_attempt_at LIMIT 1) pending",
)

_DESTINATIONS = """
SELECT breaker_state, count(*), count(*) FILTER (WHERE disabled_at IS NOT NULL),
  count(*) FILTER (WHERE held_until > now()),
  count(*) FILTER (WHERE held_until > now() AND hold_reason = 'proxy')
FROM webhooks_app_webhookdestination GROUP BY 1
"""

_FAILING = """
SELECT scheme, host, port, max(failing_messages) FROM webhooks_app_webhookdestination
WHERE failing_messages > 0 AND (muted_until IS NULL OR muted_until <= now())
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 2 LIMIT %s
"""

# One statement for two small figures.
_REPLAYS_AND_CERTIFICATES = """
SELECT (SELECT count(*) FROM webhooks_app_replayjob WHERE state = 'running'),
  (SELECT json_agg(json_build_array(scope, name, ends))::text FROM (
    SELECT scope, name, extract(epoch FROM expires_at)::float8 AS ends
    FROM webhooks_app_credential WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT %s
  ) ending)
"""


def database_gauges() -> Iterator[GaugeMetricFamily]:
    """Read the state of the outbox; raises DatabaseError where the database is out of reach."""
    with connection.cursor() as cursor:
        cursor.execute(_MESSAGES, {"limit": COUNT_LIMIT})
        text = f"Messages by state, each counted up to {COUNT_LIMIT}."
        yield _gauge("messages", text, "status", cursor.fetchall())
        text = (
            "How long the oldest due message waits; held: behind a pause, an open breaker, or"
            " requests under way to its receiver."
        )
        waits = oldest_due()
        ages = [("no", waits[False]), ("yes", waits[True])]
        yield _gauge("oldest_due_seconds", text, "held", ages)
        cursor.execute(_DESTINATIONS)
        rows = cursor.fetchall()
        counts = dict.fromkeys(BreakerState, 0) | {row[0]: row[1] for row in rows}
        text = "Destinations by the state of their breaker."
        yield _gauge("destinations", text, "breaker", counts.items())
        disabled, held = sum(row[2] for row in rows), sum(row[3] for row in rows)
        text = "Destinations that an operator disabled."
        yield GaugeMetricFamily("webhooks_destinations_disabled", text, value=disabled)
        text = "Destinations behind a pause or an open breaker."
        yield GaugeMetricFamily("webhooks_destinations_held", text, value=held)
        text = "Destinations that wait because the forward proxy made no connection."
        behind = sum(row[4] for row in rows)
        yield GaugeMetricFamily("webhooks_destinations_behind_proxy", text, value=behind)
        cursor.execute(_FAILING, [NAMED_DESTINATIONS])
        text = f"Messages failing in a row, of the {NAMED_DESTINATIONS} worst; none of muted ones."
        failing = ((safe_url(origin_text(*origin)), count) for *origin, count in cursor.fetchall())
        yield _gauge("destination_failing_messages", text, "origin", failing)
        cursor.execute(_REPLAYS_AND_CERTIFICATES, [NAMED_CERTIFICATES])
        running, ending = cursor.fetchone()
        text = "Bulk replays that are not done."
        yield GaugeMetricFamily("webhooks_replays_running", text, value=running)
        text = f"When each of the {NAMED_CERTIFICATES} client certificates that end first ends."
        name = "webhooks_client_certificate_expires_timestamp_seconds"
        ends = GaugeMetricFamily(name, text, labels=["project", "credential"])
        for project, credential, moment in json.loads(ending or "[]"):
            ends.add_metric([project, credential], moment)
        yield ends


def oldest_due() -> dict[bool, float]:
    """Return the age of the oldest due message in seconds, by whether anything holds it.

    What holds it is its destination's pause or breaker, or an engine with requests open there. What
    nothing holds leaves within milliseconds where an engine works.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST_DUE.call)
        return {False: 0.0, True: 0.0, **dict(cursor.fetchall())}


def _gauge(
    name: str, text: str, label: str, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"webhooks_{name}", text, labels=[label])
    for value, count in values:
        gauge.add_metric([value], count)
    return gauge
