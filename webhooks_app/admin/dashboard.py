"""How well do deliveries work? The webhook half of the dashboard: SQL and charts.

A fixed number of statements, each on an index and over the chosen range only, whatever the size of
the tables. Results are cached for 5 s, or for ten times as long as they took to compute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import connection
from django.urls import reverse

from webhooks_app.admin.bars import Chart, Row, Series, lines, row, stacked_bars
from webhooks_app.notation import origin_text
from webhooks_app.operators.explain import seconds_text
from webhooks_app.shown import safe_url

CACHE_SECONDS = 5.0
# Counting a backlog stops here; "10,000+" is enough for an operator.
COUNT_LIMIT = 10_000
Numbers = TypeVar("Numbers")


@dataclass(frozen=True)
class Range:
    """A period up to now, cut into buckets."""

    name: str
    bucket_seconds: int
    buckets: int
    words: str

    def labels(self, now: datetime) -> list[str]:
        """Return the start of each bucket, UTC."""
        pattern = "%H:%M" if self.bucket_seconds * self.buckets <= 86_400 else "%d %b %Hh"
        first = self.first(now)
        starts = [i * self.bucket_seconds for i in range(first, first + self.buckets)]
        return [datetime.fromtimestamp(start, UTC).strftime(pattern) for start in starts]

    def first(self, now: datetime) -> int:
        """Return the number of the first bucket, counted from 1970."""
        return int(now.timestamp()) // self.bucket_seconds - self.buckets + 1

    def since(self, now: datetime) -> datetime:
        """Return the start of the first bucket."""
        return datetime.fromtimestamp(self.first(now) * self.bucket_seconds, UTC)


RANGES = {
    name: Range(name, seconds, buckets, words)
    for name, seconds, buckets, words in (
        ("1h", 60, 60, "The last hour"),
        ("6h", 300, 72, "The last 6 hours"),
        ("24h", 1200, 72, "The last 24 hours"),
        ("7d", 7200, 84, "The last 7 days"),
    )
}
DEFAULT_RANGE = "1h"

_BY_BUCKET = """
SELECT floor(extract(epoch FROM started_at) / %s)::bigint - %s AS bucket,
       count(*) FILTER (WHERE outcome = 'succeeded'),
       count(*) FILTER (WHERE outcome = 'failed'),
       count(*) FILTER (WHERE outcome = 'interrupted'),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms)
  FROM webhooks_app_webhookdelivery
 WHERE started_at >= %s
 GROUP BY bucket"""

_NOW = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM webhooks_app_webhookmessage
          WHERE status = 'pending' LIMIT %(limit)s) AS waiting),
       (SELECT count(*) FROM (SELECT 1 FROM webhooks_app_webhookmessage
          WHERE status = 'dead' AND finished_at >= %(since)s LIMIT %(limit)s) AS dead)"""

_OLDEST = """
SELECT message.id, extract(epoch FROM now() - next_attempt_at)::float8, held_until > now()
  FROM webhooks_app_webhookmessage AS message
  JOIN webhooks_app_webhookdestination AS destination ON destination.id = message.destination_id
 WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at <= now()
 ORDER BY next_attempt_at
 LIMIT 1"""

_FAILING = """
SELECT destination.id, scheme, host, port, scope, failing_messages, disabled_at IS NOT NULL,
       held_until > now(), count(*),
       mode() WITHIN GROUP (ORDER BY coalesce(response_status::text, error_code))
  FROM webhooks_app_webhookdelivery AS delivery
  JOIN webhooks_app_webhookmessage AS message ON message.id = delivery.message_id
  JOIN webhooks_app_webhookdestination AS destination ON destination.id = message.destination_id
 WHERE delivery.outcome = 'failed' AND delivery.started_at >= %s
   AND (destination.muted_until IS NULL OR destination.muted_until <= now())
 GROUP BY destination.id
 ORDER BY count(*) DESC
 LIMIT 8"""


def cached(name: str, compute: Callable[[], Numbers], seconds: float = CACHE_SECONDS) -> Numbers:
    """Return the cached result of ``compute``; slow results are kept longer than ``seconds``."""
    kept = cache.get(name)
    if kept is not None:
        return kept
    began = time.monotonic()
    numbers = compute()
    cache.set(name, numbers, max(seconds, 10 * (time.monotonic() - began)))
    return numbers


def rows_of(sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def bounded(count: int) -> str:
    """Return a count as text, with "+" if it stopped at its limit."""
    return f"{COUNT_LIMIT:,}+" if count > COUNT_LIMIT else f"{count:,}"


def webhook_charts(chosen: Range, now: datetime) -> dict[str, Any]:
    return cached(f"dashboard:webhooks:{chosen.name}", lambda: _compute(chosen, now))


def _compute(chosen: Range, now: datetime) -> dict[str, Any]:
    since = chosen.since(now)
    by_bucket = rows_of(_BY_BUCKET, [chosen.bucket_seconds, chosen.first(now), since])
    waiting, dead = rows_of(_NOW, {"limit": COUNT_LIMIT + 1, "since": since})[0]
    succeeded, failed = sum(r[1] for r in by_bucket), sum(r[2] for r in by_bucket)
    labels = chosen.labels(now)
    return {
        "at": now,
        "cards": [*_cards(succeeded, failed, waiting, dead), _oldest_due()],
        "outcomes": _outcomes(labels, by_bucket),
        "success": _success(labels, by_bucket),
        "latency": _latency(labels, by_bucket),
        "failing": _failing(since),
    }


def _cards(succeeded: int, failed: int, waiting: int, dead: int) -> list[dict[str, str]]:
    ended = succeeded + failed
    rate = f"{100 * succeeded / ended:.1f} %" if ended else "-"
    messages = reverse("admin:webhooks_app_webhookmessage_changelist")
    return [
        {"name": "Delivered", "value": f"{succeeded:,}", "tone": ""},
        {"name": "Success rate", "value": rate, "tone": _rate_tone(succeeded, ended)},
        {
            "name": "Dead letters",
            "value": bounded(dead),
            "tone": "bad" if dead else "good",
            "link": f"{messages}?status=dead",
        },
        {
            "name": "Waiting",
            "value": bounded(waiting),
            "tone": "",
            "link": f"{messages}?status=pending",
        },
    ]


def _oldest_due() -> dict[str, str]:
    """Say how late the oldest due message is, and whether its destination or we are the cause."""
    found = rows_of(_OLDEST, None)
    if not found:
        return {"name": "Oldest due", "value": "none", "tone": "good"}
    key, seconds, is_held = found[0]
    return {
        "name": "Oldest due",
        "value": seconds_text(seconds),
        "tone": "warn" if is_held else "bad" if seconds > 10 else "good",
        "note": "held back" if is_held else "",
        "link": reverse("admin:webhooks_app_webhookmessage_change", args=[key]),
    }


def _rate_tone(succeeded: int, ended: int) -> str:
    if not ended:
        return ""
    return "good" if succeeded / ended >= 0.99 else "bad" if succeeded / ended < 0.9 else ""


def _column(labels: list[str], found: list[tuple[Any, ...]], column: int) -> list[float]:
    values = [0.0] * len(labels)
    for entry in found:
        if 0 <= entry[0] < len(values):
            values[entry[0]] = float(entry[column] or 0)
    return values


def _outcomes(labels: list[str], found: list[tuple[Any, ...]]) -> Chart:
    series = [
        Series("succeeded", "success", _column(labels, found, 1)),
        Series("failed", "danger", _column(labels, found, 2)),
        Series("interrupted", "warning", _column(labels, found, 3)),
    ]
    return stacked_bars(labels, series, width=1140, height=220)


def _success(labels: list[str], found: list[tuple[Any, ...]]) -> Chart:
    good, bad = _column(labels, found, 1), _column(labels, found, 2)
    rates = [100 * g / (g + b) if g + b else None for g, b in zip(good, bad, strict=True)]
    series = [Series("success rate", "success", rates)]
    return lines(labels, series, lambda v: f"{v:.0f} %", top_value=100.0)


def _latency(labels: list[str], found: list[tuple[Any, ...]]) -> Chart:
    series = []
    for index, (name, css) in enumerate((("p50", "teal"), ("p95", "info"), ("p99", "violet"))):
        values: list[float | None] = [None] * len(labels)
        for entry in found:
            if 0 <= entry[0] < len(values) and entry[4] and entry[4][index] is not None:
                values[entry[0]] = entry[4][index] / 1000
        series.append(Series(name, css, values))
    return lines(labels, series, seconds_text, is_logarithmic=True)


def _failing(since: datetime) -> list[Row]:
    found = rows_of(_FAILING, [since])
    longest = max((entry[8] for entry in found), default=0)
    return [_failing_row(entry, longest) for entry in found]


def _failing_row(entry: tuple[Any, ...], longest: int) -> Row:
    key, scheme, host, port, scope, in_a_row, is_disabled, is_held, count, mostly = entry
    name = safe_url(origin_text(scheme, host, port))
    note, tone = (
        ("disabled", "danger") if is_disabled else ("held", "warning") if is_held else ("", "")
    )
    return row(
        name,
        f"{count:,} failed, mostly {mostly}" + (f", {in_a_row} in a row" if in_a_row else ""),
        [("danger", count, f"{scope}: {count:,} failed attempts")],
        longest,
        link=reverse("admin:webhooks_app_webhookdestination_change", args=[key]),
        note=note,
        tone=tone,
    )


def range_of(name: str | None) -> Range:
    return RANGES.get(name or "", RANGES[DEFAULT_RANGE])
