"""Do spans cost nothing without a collector, and harm nothing where it is away?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import Resolver404, resolve

from moviesvc import otel
from tests import ROOT
from tests.support.ports import free_port

SECRET = "0123456789abcdef" * 3
AT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environment", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_SERVICE_NAME": "films"}, False),
        (AT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({**AT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**AT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_an_endpoint_switches_traces_on(environment: dict[str, str], is_wanted: bool) -> None:
    """Only a named collector does, and the standard variables switch them off."""
    assert otel.is_wanted(environment) is is_wanted


def test_what_cannot_be_sent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra and a protocol that is not here are warnings that say what to do."""
    assert otel.fault(AT) == ""
    protocol = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert "http/protobuf, by default at port 4318" in otel.fault({**AT, **protocol})
    monkeypatch.setattr(otel, "PACKAGES", ("opentelemetry-that-nobody-has",))
    assert "pip install 'ai-movie-task-service[otel]'" in otel.fault(AT)
    for name, value in AT.items():
        monkeypatch.setenv(name, value)
    (warning,) = otel.check_traces(None)
    assert (warning.id, warning.msg) == ("moviesvc.W001", otel.fault(AT))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/tasks/7", "/api/v1/tasks/7"),
        (f"/api/v1/providers/fal/callback/{SECRET}", None),
        (f"/api/v1/provider/fal/callback/{SECRET}", None),
    ],
)
def test_no_span_of_a_request_contains_a_secret(path: str, shown: str | None) -> None:
    """A provider's callback is named by its route, and an unknown address not at all."""
    request = RequestFactory().post(f"{path}?key={SECRET}")
    with suppress(Resolver404):
        request.resolver_match = resolve(path)
    told = otel.attributes_of(request, HttpResponse())
    assert SECRET not in str(told)
    assert told.get("url.path") == shown


#: Prints how long recording took, and whether the SDK is loaded.
PROGRAM = """
import sys, time
import django; django.setup()
import moviesvc.urls, tasks_app.actors, webhooks_app.delivery
from webhooks_app import traces
if traces.recorder is None:
    loaded = [name for name, module in sys.modules.items() if module is not None]
    print(any(name.startswith("opentelemetry") for name in loaded))
else:
    now, parent = time.time(), traces.new()
    span = traces.Span(name="x", parent=parent, start=now - 1, end=now, attributes={"odd": object})
    began = time.monotonic()
    for _ in range(3000):
        traces.recorder(span)
    traces.recorder(None)
    print(round(time.monotonic() - began))
"""


def run(**environment: str) -> Any:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "moviesvc.settings", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_a_collector_nothing_of_it_is_loaded() -> None:
    """Web, worker and engine run without a module of OpenTelemetry."""
    done = run()
    assert done.stdout == "False\n", done.stderr


def test_a_collector_that_is_away_costs_spans_and_nothing_else() -> None:
    """Recording waits for nothing and never raises, and the process ends soon afterwards."""
    began = time.monotonic()
    done = run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10
    assert "A span could not be recorded" in done.stderr
    assert time.monotonic() - began < 10 + int(done.stdout)
