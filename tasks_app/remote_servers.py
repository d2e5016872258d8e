"""Which servers do the configured providers have, how do they stand, and who pauses them?

For the admin, the command and the metrics. Rows are written by `state` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily

from tasks_app import metrics, providers
from tasks_app.models import RemoteJobOutcome, RemoteJobState, RemoteServer
from tasks_app.providers.base import Provider, ProviderError
from tasks_app.state import server_rows
from webhooks_app.metrics import COUNT_LIMIT
from webhooks_app.operators import record

#: Provider and label of a server.
Name = tuple[str, str]
#: Where a figure goes whose server is not configured any more, so that labels stay bounded.
OTHER: Name = ("other", "other")
#: A server with running work that has not answered for so long is shown as silent.
SILENT_SECONDS = 300.0
UNFINISHED = tuple(state for state in RemoteJobState if state != RemoteJobState.ENDED)


class UnknownServer(LookupError):
    """No such server is configured, and none has ever had a job."""


# -- how they stand --------------------------------------------------------------------------------


@dataclass(slots=True)
class Load:
    """The jobs of one server that have not ended.

    ``stops_owed``: those that the provider has not been told to stop yet. ``answered_at``: when it
    last answered about work that is running there now.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    stops_owed: int = 0
    oldest_stop_at: datetime | None = None
    answered_at: datetime | None = None

    @property
    def places_used(self) -> int:
        """Return how many of the server's places are taken; a result to be fetched takes none."""
        return sum(self.jobs[state] for state in UNFINISHED if state != RemoteJobState.READY)

    def silent_seconds(self, now: datetime) -> float:
        """Return for how long the server has said nothing of its running work, 0 without any."""
        return _seconds(self.answered_at, now)

    def stop_seconds(self, now: datetime) -> float:
        """Return how long the oldest stop has been owed, 0 without any."""
        return _seconds(self.oldest_stop_at, now)


def configured() -> dict[Name, int | None]:
    """Return the servers of all configured providers, and most jobs at once on each.

    None is no limit of ours. What two task types say of one server counts together.
    """
    found: dict[Name, int | None] = {}
    for task_type in sorted(providers.configured_task_types()):
        try:
            chain = providers.get_providers(task_type)
        except providers.FAULTS:  # `manage.py check` says what is wrong
            continue
        for provider in chain:
            if not provider.is_local:
                found |= _servers_of(provider)
    return found


def _servers_of(provider: Provider) -> dict[Name, int | None]:
    # Imported here: it loads the HTTP client, which a service without remote work does not need.
    from tasks_app.providers.remote.base import RemoteProvider

    if not isinstance(provider, RemoteProvider):
        return {}
    found: dict[Name, int | None] = {}
    for model in ("", *provider.models):
        try:
            servers = provider.servers(model)
        except ProviderError:  # the same
            continue
        found |= {(provider.name, server.label): server.limit for server in servers}
    return found


# All jobs that have not ended, by an index that holds no others.
_LOADS = """
SELECT provider, server, state, count(*),
  count(*) FILTER (WHERE state = 'stopping' AND stop_told_at IS NULL),
  min(stop_owed_at) FILTER (WHERE state = 'stopping' AND stop_told_at IS NULL),
  max(coalesce(seen_at, created_at)) FILTER (WHERE state = 'running')
FROM (SELECT provider, server, state, stop_owed_at, stop_told_at, seen_at, created_at
      FROM tasks_app_remotejob WHERE state <> 'ended' LIMIT %s) unfinished
GROUP BY 1, 2, 3
"""


def loads() -> dict[Name, Load]:
    """Return what each server has to do; servers with nothing are left out."""
    found: dict[Name, Load] = {}
    with connection.cursor() as cursor:
        cursor.execute(_LOADS, [COUNT_LIMIT])
        for provider, server, state, count, owed, oldest_stop_at, answered_at in cursor:
            load = found.setdefault((provider, server), Load())
            load.jobs[state] += count
            load.stops_owed += owed
            load.oldest_stop_at = load.oldest_stop_at or oldest_stop_at
            load.answered_at = load.answered_at or answered_at
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """How one server stands."""

    row: RemoteServer
    load: Load
    limit: int | None
    is_configured: bool

    def state(self, now: datetime) -> tuple[str, str]:
        """Return tone and words for what an operator should know first."""
        if self.row.is_paused:
            return "warning", "paused"
        if not self.is_configured:
            return "base", "not configured"
        if self.load.silent_seconds(now) > SILENT_SECONDS:
            return "danger", "silent"
        if self.row.busy_until and self.row.busy_until > now:
            return "warning", "busy"
        return ("info", "working") if self.load.places_used else ("success", "free")


def standing() -> dict[Name, Standing]:
    """Return every server that is configured or ever had a job, in order."""
    limits, found = configured(), loads()
    rows = {(row.provider, row.label): row for row in RemoteServer.objects.all()}
    for provider, label in limits.keys() - rows.keys():
        rows[provider, label] = RemoteServer(provider=provider, label=label)
    return {
        name: Standing(rows[name], found.get(name, Load()), limits.get(name), name in limits)
        for name in sorted(rows)
    }


def know_all() -> None:
    """Make the rows of all configured servers, so that each can be seen and paused before use."""
    for provider, label in configured():
        server_rows.know(provider, [label])


# -- what operators do -----------------------------------------------------------------------------


def pause(provider: str, label: str, *, actor: str, reason: str) -> bool:
    """Give a server no new jobs; those it has go on. False if it was paused before.

    Raises:
        ValueError: no reason is given.
        UnknownServer: there is no such server.
    """
    return _set_paused((provider, label), True, actor, reason)


def resume(provider: str, label: str, *, actor: str, reason: str) -> bool:
    """Give a server jobs again. False if it was not paused.

    Raises:
        ValueError: no reason is given.
        UnknownServer: there is no such server.
    """
    return _set_paused((provider, label), False, actor, reason)


@transaction.atomic
def _set_paused(name: Name, is_paused: bool, actor: str, reason: str) -> bool:
    if not reason.strip():
        raise ValueError("Say why: the reason is kept in the operators' record.")
    provider, label = name
    if name in configured():
        server_rows.know(provider, [label])
    elif name not in RemoteServer.objects.values_list("provider", "label"):  # few rows
        raise UnknownServer(f"There is no server {provider}/{label}.")
    if not server_rows.set_paused(provider, label, is_paused):
        return False
    verb = "pause" if is_paused else "resume"
    record.note(actor, f"remote_server.{verb}", f"{provider}/{label}", reason.strip())
    return True


# -- what Prometheus is told -----------------------------------------------------------------------

# Up to the limit, by an index that holds no other tasks.
_WAITING = """
SELECT split_part(waits_for, ':', 1), count(*)
FROM (SELECT waits_for FROM tasks_app_task WHERE status = 'queued' AND waits_for <> ''
      LIMIT %s) waiting
GROUP BY 1
"""


def prepare_metrics() -> None:
    """Create every counted series of the configured servers, so that each exists with value 0."""
    for name in configured():
        for outcome in RemoteJobOutcome:
            metrics.remote_jobs_ended.labels(*name, outcome)


def database_gauges() -> Iterator[GaugeMetricFamily]:
    """Read how the servers stand; three statements, whose cost does not grow with the history.

    Raises:
        django.db.DatabaseError: it cannot be reached.
    """
    now, found = timezone.now(), standing()
    servers = {name: one for name, one in found.items() if one.is_configured}
    loads_of: dict[Name, list[Load]] = {name: [one.load] for name, one in servers.items()}
    if gone := [one.load for name, one in found.items() if name not in servers and one.load.jobs]:
        loads_of[OTHER] = gone
    yield from _load_gauges(loads_of, now)
    busy = _gauge("server_busy", "Whether a server said that it is full, or was away, just now.")
    paused = _gauge("server_paused", "Whether an operator paused a server.")
    for name, one in servers.items():
        busy.add_metric(name, bool(one.row.busy_until and one.row.busy_until > now))
        paused.add_metric(name, one.row.is_paused)
    yield busy
    yield paused
    yield _waiting({provider for provider, _ in servers})


def _load_gauges(loads_of: Mapping[Name, list[Load]], now: datetime) -> Iterator[GaugeMetricFamily]:
    jobs = GaugeMetricFamily(
        "movies_remote_jobs",
        "Jobs at providers elsewhere that have not ended, by state.",
        labels=["provider", "server", "state"],
    )
    owed = _gauge("stops_owed", "Jobs that a provider must still be told to stop.")
    oldest = _gauge("stop_oldest_seconds", "How long the oldest stop has been owed.")
    silent = _gauge(
        "server_silent_seconds",
        "For how long a server has said nothing of its running jobs; 0 while it has none.",
    )
    for name, some in loads_of.items():
        for state in UNFINISHED:
            jobs.add_metric([*name, state], sum(load.jobs[state] for load in some))
        owed.add_metric(name, sum(load.stops_owed for load in some))
        oldest.add_metric(name, max(load.stop_seconds(now) for load in some))
        silent.add_metric(name, max(load.silent_seconds(now) for load in some))
    yield from (jobs, owed, oldest, silent)


def _waiting(names: set[str]) -> GaugeMetricFamily:
    waiting = GaugeMetricFamily(
        "movies_remote_waiting_tasks",
        f"Tasks that wait for room at a provider, counted up to {COUNT_LIMIT}.",
        labels=["provider"],
    )
    counts: Counter[str] = Counter(dict.fromkeys(names, 0))
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [COUNT_LIMIT])
        for provider, count in cursor:
            counts[provider if provider in names else OTHER[0]] += count
    for provider, count in counts.items():
        waiting.add_metric([provider], count)
    return waiting


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"movies_remote_{name}", text, labels=["provider", "server"])


def _seconds(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0
