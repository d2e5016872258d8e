"""What does `/metrics` answer, and whom?

The figures of this machine's processes, added up, and those of the database, read at most every
five seconds. They cover all projects, so they are not public: they need a key that is bound to no
project, or an address in METRICS_ALLOW_NETWORKS.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from rest_framework.request import Request

from moviesvc.admin_gate import is_in
from tasks_app import metrics as task_metrics
from tasks_app import redis_gate, remote_servers, tickets
from tasks_app.access import throttling
from tasks_app.access.authentication import ApiKeyAuthentication, unauthorized
from webhooks_app import metrics as webhook_metrics
from webhooks_app.api.access import missing_scope
from webhooks_app.api.problems import ApiProblem
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)

CACHE_SECONDS = 5.0


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not is_in(settings.METRICS_ALLOW_NETWORKS, throttling.client_address(request)):
        _check_key(request)
    task_metrics.prepare()
    webhook_metrics.prepare()
    remote_servers.prepare_metrics()
    registry = CollectorRegistry()
    registry.register(Counted())
    registry.register(SharedState())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _check_key(request: HttpRequest) -> None:
    # Prometheus before 2.55 can send no custom header, only a bearer token.
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        request.META.setdefault("HTTP_X_API_KEY", token)
    found = ApiKeyAuthentication().authenticate(Request(request))
    if found is None:
        raise unauthorized("Send an API key, or list this address in METRICS_ALLOW_NETWORKS.")
    access = found[1]
    if not access.allows("read"):
        raise missing_scope("read")
    if access.scope is not None:
        detail = "The figures are of all projects; this key is bound to one."
        raise ApiProblem(403, "forbidden", detail)


class Counted:
    """What processes counted, limited to metrics that this version of the code has.

    The files outlive an upgrade, and may contain metrics whose names have changed.
    """

    def collect(self) -> Iterable[Metric]:
        known = {
            family.name
            for module in (task_metrics, webhook_metrics)
            for collector in module.collectors()
            for family in collector.describe()
        }
        return [family for family in settings.PROCESS_METRICS.collect() if family.name in known]


class SharedState:
    """What the database and Redis report; the same on every machine."""

    def collect(self) -> Iterable[Metric]:
        place = Path(settings.MEDIA_ROOT)
        disk = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists()))
        free = disk.free / disk.total
        yield _gauge("movies_disk_free_ratio", "Free part of the disk that holds media.", free)
        yield _gauge(
            "movies_redis_up",
            "Whether Redis answers.",
            bool(redis_gate.gate.call(redis_gate.probe)),
        )
        if (workers := tickets.workers_alive()) is not None:
            yield _gauge("movies_workers_alive", "Worker processes on all machines.", workers)
        found = self._from_database()
        yield _gauge("movies_database_up", "Whether PostgreSQL answers.", found is not None)
        yield from found or []

    @staticmethod
    def _from_database() -> list[GaugeMetricFamily] | None:
        if (kept := cache.get("metrics:database")) is not None:
            return list(kept)
        try:
            found = [
                *task_metrics.database_gauges(),
                *remote_servers.database_gauges(),
                *webhook_metrics.database_gauges(),
            ]
        except Error as error:
            if not (reason := why_unusable(error)):
                raise
            logger.warning("Metrics lack the database's part", reason=reason)
            return None
        cache.set("metrics:database", found, CACHE_SECONDS)
        return found


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
