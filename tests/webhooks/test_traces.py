"""Is a traceparent read as W3C's own test suite asks, and made and passed on in the same form?"""

from __future__ import annotations

from contextlib import suppress

import pytest
import structlog

from webhooks_app import traces

TRACE, SPAN = "12345678901234567890123456789012", "1234567890123456"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (GOOD, GOOD),
        (f" \t{GOOD}\t ", GOOD),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # Level 2's flag for a random trace id is kept; flags without a meaning are not.
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-fc", f"00-{TRACE}-{SPAN}-00"),
        # A later version, with and without what this one does not know.
        (f"cc-{TRACE}-{SPAN}-01", GOOD),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", GOOD),
        (f"01-{TRACE}-{SPAN}-09-", GOOD),
    ],
)
def test_a_good_header_is_taken(header: str, kept: str) -> None:
    """Whitespace around it is no part of it, and a later version is read as far as it is known."""
    assert traces.read(header) == kept


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        GOOD.removesuffix("-01"),
        GOOD[:-1],
        GOOD + "1",
        GOOD + ".",
        GOOD + "-what-the-future-will-not-be-like",
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-not-be-like",
        f"ff-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01",
        f"0.-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00-.{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}1-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}A-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN[:-1]}.-01",
        f"00-{TRACE}-{SPAN}1-01",
        f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{TRACE}-{SPAN}-0.",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-1",
        f"{GOOD},{GOOD}",  # two headers of the name
        f"00-{TRACE[:-2]}١٢-{SPAN}-01",  # digits, but not of ASCII
        GOOD + "\n",
    ],
)
def test_anything_else_is_none(header: str) -> None:
    """What W3C's suite calls malformed, zeros and doubled headers included, is no traceparent."""
    assert traces.read(header) == ""


def test_a_new_trace_and_its_children_have_the_same_form() -> None:
    """What is made can be read again; a child keeps the trace and its flags."""
    made = traces.new()
    assert traces.read(made) == made != traces.new()
    other = traces.child(made, SPAN)
    assert traces.read(other) == other
    assert (traces.trace_id(other), traces.span_id(other)) == (traces.trace_id(made), SPAN)
    assert other[52:] == made[52:] == "-01"


def test_a_block_belongs_to_its_trace_and_no_longer() -> None:
    """Log lines name the trace within the block; spans are children of each other."""
    seen: list[traces.Span] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "recorder", seen.append)
        with traces.within(GOOD):
            assert structlog.contextvars.get_contextvars()["trace_id"] == TRACE
            with suppress(KeyError), traces.span("outer", x=1), traces.span("inner") as told:
                told["y"] = 2
                raise KeyError
        with traces.span("without a trace"):
            pass
    assert "trace_id" not in structlog.contextvars.get_contextvars()
    inner, outer = seen
    assert (outer.name, outer.parent, outer.attributes, outer.error) == (
        *("outer", GOOD, {"x": 1}, "KeyError"),
    )
    assert inner.parent == traces.child(GOOD, outer.span_id)
    assert outer.start <= inner.start <= inner.end <= outer.end
    assert inner.attributes == {"y": 2}
