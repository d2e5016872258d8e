"""Which trace does work belong to, and who is told how long it took?

A ``traceparent`` is the header of that name in W3C's Trace Context: version, trace id, span id and
flags. Here it is always 55 characters long, or empty where something belongs to no trace. Spans go
to the ``recorder`` that the project gives; without one nothing is measured.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog

#: The header's name.
HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
#: Flags that have a meaning: sampled, and (since level 2) a random trace id.
_KNOWN_FLAGS = 0x03
SAMPLED = 0x01


def read(header: str) -> str:
    """Return the ``traceparent`` that a header names; empty if it is malformed or all zero.

    Of a later version what is known of it is kept, as the standard asks (section 4.3 of level 1).
    """
    match = _FORM.fullmatch(header.strip(" \t"))
    if match is None:
        return ""
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return ""
    if not trace.strip("0") or not span.strip("0"):
        return ""
    return written(trace, span, int(flags, 16) & _KNOWN_FLAGS)


def new() -> str:
    """Return the ``traceparent`` of a new trace.

    It is sampled: a receiver that leaves the choice to its callers would otherwise record nothing.
    """
    return written(secrets.token_hex(16), new_span_id(), SAMPLED)


def new_span_id() -> str:
    """Return 16 random hex digits."""
    return secrets.token_hex(8)


def written(trace: str, span: str, flags: int) -> str:
    """Return the header's value for a trace id, a span id (both in hex) and flags."""
    return f"00-{trace}-{span}-{flags:02x}"


def child(traceparent: str, span: str) -> str:
    """Return the ``traceparent`` of the same trace that names another span."""
    return f"{traceparent[:36]}{span}{traceparent[52:]}"


def trace_id(traceparent: str) -> str:
    """Return the trace id, empty for an empty ``traceparent``."""
    return traceparent[3:35]


def span_id(traceparent: str) -> str:
    """Return the span id, empty for an empty ``traceparent``."""
    return traceparent[36:52]


def log_fields(traceparent: str) -> dict[str, str]:
    """Return what a log line says of a trace."""
    return {"trace_id": traceparent[3:35]} if traceparent else {}


# -- what is under way ----------------------------------------------------------------------------

#: The ``traceparent`` of what this thread or asyncio task is doing.
current: ContextVar[str] = ContextVar("traceparent", default="")


@contextmanager
def within(traceparent: str) -> Iterator[None]:
    """Let a block belong to a trace: its log lines name it, and its spans are children of it."""
    token = current.set(traceparent)
    try:
        with structlog.contextvars.bound_contextvars(**log_fields(traceparent)):
            yield
    finally:
        current.reset(token)


# -- spans ----------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Span:
    """Something that has ended. ``start`` and ``end``: seconds since the epoch.

    ``parent``: the ``traceparent`` of what it is a part of. ``span_id``: its own, if others know
    it already. ``kind``: internal, client, server, producer or consumer. ``parts``: (name, start,
    end) of steps within it. ``error``: a code, empty if it went well.
    """

    name: str
    parent: str
    start: float
    end: float
    span_id: str = ""
    kind: str = "internal"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[tuple[str, float, float]] = ()
    error: str = ""


#: Takes every span that has ended, from any thread, at once and without raising; None: nobody does.
recorder: Callable[[Span], None] | None = None


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[dict[str, Any]]:
    """Measure a block as a span of the current trace.

    Yields: its attributes, to which the block may add.
    """
    parent = current.get()
    if recorder is None or not parent:
        yield attributes
        return
    own, start, failed = new_span_id(), time.time(), ""
    token = current.set(child(parent, own))
    try:
        yield attributes
    except BaseException as error:
        failed = str(getattr(error, "code", "") or type(error).__name__)
        raise
    finally:
        current.reset(token)
        recorder(
            Span(
                name=name,
                parent=parent,
                start=start,
                end=time.time(),
                span_id=own,
                attributes=attributes,
                error=failed,
            )
        )
