"""How do spans reach an OTLP collector? By OpenTelemetry's own SDK, if the environment names one.

The SDK reads the standard ``OTEL_*`` variables. Without an endpoint among them nothing of it is
loaded. Spans are queued, at most `OTEL_BSP_MAX_QUEUE_SIZE` of them, and sent in batches by a thread
of the SDK: a collector that is slow or down costs spans, never a request or a delivery.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import structlog
from django.core.checks import CheckMessage, Warning, register

from moviesvc import __version__
from webhooks_app import traces

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseBase
    from opentelemetry.trace import Span, SpanContext

logger = structlog.get_logger(__name__)

TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
#: What switches traces off, without the beginning of its name.
_OFF = {"SDK_DISABLED": "true", "TRACES_EXPORTER": "none"}
PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
SERVICE = "ai-movie-task-service"
#: At the end of a process, the longest time for the last spans.
FLUSH_SECONDS = 2.0
#: The requests that are spans, and those among them that are not: probes come every few seconds.
TRACED, PROBES = "/api/", "/api/v1/health"


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Say whether the environment names a collector, and does not switch traces off."""
    names_one = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get(TRACES_ENDPOINT)
    given = {name: environ.get(f"OTEL_{name}", "").strip().lower() for name in _OFF}
    return bool(names_one) and given.items().isdisjoint(_OFF.items())


def leave_out() -> None:
    """Keep libraries from loading OpenTelemetry for figures of their own.

    `redis.observability` does so where it is installed, which takes 60 ms in each process.
    """
    sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]


def fault(environment: Mapping[str, str]) -> str:
    """Return why no spans can be sent although they are wanted, and what to do; empty: they can."""
    if not _is_installed():
        return (
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed, so no traces "
            "are sent. Install it with: pip install 'ai-movie-task-service[otel]', or unset it."
        )
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        return (
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}, so no traces are sent: the only one "
            f"here is {PROTOCOL}, by default at port 4318 of a collector."
        )
    return ""


def _is_installed() -> bool:
    try:
        return all(metadata.version(name) for name in PACKAGES)
    except metadata.PackageNotFoundError:
        return False


def use(environment: Mapping[str, str]) -> bool:
    """Let spans be recorded if a collector is named; log why not where that is impossible."""
    if not is_wanted(environment):
        return False
    if reason := fault(environment):
        logger.warning(reason)
        return False
    # Loaded here and not at the first span, which may be a delivery's.
    import opentelemetry.exporter.otlp.proto.http.trace_exporter
    import opentelemetry.sdk.trace.export  # noqa: F401

    traces.recorder = tracer.record
    return True


@register("otel")
def check_traces(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Report a collector that gets nothing."""
    reason = fault(os.environ) if is_wanted(os.environ) else ""
    return [Warning(reason, id="moviesvc.W001")] if reason else []


class Tracer:
    """Makes the SDK's spans of ours. Each process has its own provider, made at the first span."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._tracer: Any = None
        self._ids: Any = None
        self._has_failed = False

    def _ready(self) -> Any:
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._tracer = self._made()
                    self._pid = os.getpid()
        return self._tracer

    def _made(self) -> Any:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._ids = _ids()
        named = Resource({"service.name": SERVICE, "service.version": __version__})
        provider = TracerProvider(
            # What the environment says of the service comes last, and wins.
            resource=Resource.create().merge(named).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(OTLPSpanExporter())
        provider.add_span_processor(processor)
        # Not by `atexit`, which does not run in processes that multiprocessing has started.
        Finalize(None, _flush, args=(processor,), exitpriority=0)
        return provider.get_tracer("moviesvc", __version__)

    def record(self, span: traces.Span) -> None:
        """Queue a span that has ended; never raises, and waits for nothing."""
        with self._harmless():
            self._record(span)

    def _record(self, span: traces.Span) -> None:
        from opentelemetry import trace

        tracer = self._ready()
        self._ids.next_span.id = int(span.span_id, 16) if span.span_id else 0
        made = tracer.start_span(
            span.name,
            _below(context_of(span.parent)),
            trace.SpanKind[span.kind.upper()],
            dict(span.attributes),
            start_time=_nanoseconds(span.start),
        )
        if not made.is_recording():
            return
        own = _below(made.get_span_context())
        for name, start, end in span.parts:
            part = tracer.start_span(name, own, start_time=_nanoseconds(start))
            part.end(_nanoseconds(end))
        if span.error:
            made.set_status(trace.StatusCode.ERROR, span.error)
        made.end(_nanoseconds(span.end))

    def begin(self, request: HttpRequest) -> Span | None:
        """Begin the span of a request, and let the request belong to its trace.

        Its header is kept if it is a good one: what the request leads to belongs to its sender.
        """
        with self._harmless():
            from opentelemetry import trace
            from opentelemetry.context import Context

            given = traces.read(request.META.get("HTTP_TRACEPARENT", ""))
            parent = _below(context_of(given)) if given else Context()
            tracer = self._ready()
            self._ids.next_span.id = 0
            span: Span = tracer.start_span(f"{request.method}", parent, trace.SpanKind.SERVER)
            if not given:
                request.META["HTTP_TRACEPARENT"] = _header(span.get_span_context())
            return span
        return None

    def end(self, span: Span, request: HttpRequest, response: HttpResponseBase) -> None:
        """End the span of a request with what became of it."""
        with self._harmless():
            from opentelemetry import trace

            attributes = attributes_of(request, response)
            if route := attributes.get("http.route"):
                span.update_name(f"{request.method} {route}")
            span.set_attributes(attributes)
            if response.status_code >= 500:
                span.set_status(trace.StatusCode.ERROR)
            span.end()

    def _harmless(self) -> Any:
        return _Harmless(self)

    def failed(self, error: Exception) -> None:
        """Log the first fault of this process: there may be one for each span."""
        if not self._has_failed:
            self._has_failed = True
            logger.error("A span could not be recorded", error=type(error).__name__, exc_info=error)


class _Harmless:
    """Keeps a fault in here from whatever is being measured."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Exception):
            self._tracer.failed(error)
            return True
        return False


def _ids() -> Any:
    """Return a source of ids which gives a span the id that others already know it by."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def __init__(self) -> None:
            self.next_span = threading.local()

        def generate_span_id(self) -> int:
            known, self.next_span.id = getattr(self.next_span, "id", 0), 0
            return known or super().generate_span_id()

    return Ids()


def context_of(traceparent: str) -> SpanContext:
    """Return the SDK's form of a ``traceparent``."""
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(
        int(traces.trace_id(traceparent), 16),
        int(traces.span_id(traceparent), 16),
        is_remote=True,
        trace_flags=TraceFlags(int(traceparent[53:], 16)),
    )


def attributes_of(request: HttpRequest, response: HttpResponseBase) -> dict[str, Any]:
    """Return what the span of a request says: nothing that lets in whoever knows it.

    So a path is left out where it contains a token, or leads nowhere: that may be one mistyped.
    """
    found: dict[str, Any] = {
        "http.request.method": str(request.method),
        "http.response.status_code": response.status_code,
    }
    if match := request.resolver_match:
        found["http.route"] = f"/{match.route}"
        if "token" not in match.kwargs:
            found["url.path"] = request.path
    return found


def _below(context: SpanContext) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(context), Context())


def _header(context: SpanContext) -> str:
    return traces.written(
        f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _flush(processor: Any) -> None:
    """Send what is left, for a limited time: the SDK's own `shutdown` waits half a minute."""
    with suppress(Exception):
        processor._batch_processor.shutdown(timeout_millis=int(1000 * FLUSH_SECONDS))


tracer = Tracer()


class Requests:
    """Middleware that makes each request to the API a span; only where spans are recorded."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path
        is_traced = path.startswith(TRACED) and not path.startswith(PROBES)
        span = tracer.begin(request) if is_traced else None
        response = self.get_response(request)
        if span is not None:
            tracer.end(span, request, response)
        return response
