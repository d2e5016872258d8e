"""Which moment is meant by "14:00", in which zone, and what is refused?"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from webhooks_app.operators.moments import moment_of, span_of, zone_of

#: The day on which clocks in Berlin went from 2:00 to 3:00, at half past nine there.
NOW = datetime(2026, 3, 29, 7, 30, 5, 999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "zone", "meant"),
    [
        ("14:00", "", "2026-03-29T14:00:00+00:00"),
        ("14:00", "Europe/Berlin", "2026-03-29T12:00:00+00:00"),
        ("9:05:30", "europe/berlin", "2026-03-29T07:05:30+00:00"),
        ("today", "Europe/Berlin", "2026-03-28T23:00:00+00:00"),
        ("yesterday", "", "2026-03-28T00:00:00+00:00"),
        (" Yesterday  18:00 ", "Europe/Berlin", "2026-03-28T17:00:00+00:00"),
        ("yesterday 20:00", "America/New_York", "2026-03-29T00:00:00+00:00"),
        ("2h", "", "2026-03-29T05:30:05+00:00"),
        ("90 min ago", "Asia/Tokyo", "2026-03-29T06:00:05+00:00"),
        ("3d", "", "2026-03-26T07:30:05+00:00"),
        ("2025-01-15T14:00", "Asia/Tokyo", "2025-01-15T05:00:00+00:00"),
        ("2025-01-15", "", "2025-01-15T00:00:00+00:00"),
        ("2025-01-15T14:00:00Z", "Asia/Tokyo", "2025-01-15T14:00:00+00:00"),
        ("2025-01-15 14:00:00.5+02:00", "", "2025-01-15T12:00:00.500000+00:00"),
        ("2025-10-26T02:30", "Europe/Berlin", "2025-10-26T00:30:00+00:00"),
    ],
)
def test_words_are_a_moment_in_the_zone(words: str, zone: str, meant: str) -> None:
    """Proves each form in the zone that was named, also where clocks were put forward or back."""
    assert moment_of(words, NOW, zone_of(zone)).astimezone(UTC).isoformat() == meant


@pytest.mark.parametrize(
    "words",
    ["", "sometime", "25:00", "14", "14:60", "2w", "999999d", "0001-01-01", "14:00Z", "1٢:00"],
)
def test_what_is_no_moment_is_refused_with_the_forms(words: str) -> None:
    """Proves that nothing is guessed, out of range included, and the refusal says what to write."""
    with pytest.raises(ValueError, match="yesterday 18:00"):
        moment_of(words, NOW, zone_of("Asia/Tokyo"))


def test_a_span_that_nothing_can_lie_in_is_refused() -> None:
    """Proves that a time of day that has not come yet is not taken for an empty answer."""
    with pytest.raises(ValueError, match="say yesterday 14:00"):
        span_of("14:00", "", NOW)
    with pytest.raises(ValueError, match="is not after"):
        span_of("6:00", "5:00", NOW)
    assert span_of("", "14:00", NOW) == (None, datetime(2026, 3, 29, 14, tzinfo=UTC))


def test_an_unknown_zone_is_refused_with_those_spelt_alike() -> None:
    """Proves that a slip of the pen is no UTC."""
    with pytest.raises(ValueError, match="Europe/Berlin"):
        zone_of("Europe/Berlim")
    with pytest.raises(ValueError, match="Europe/Berlin"):
        zone_of("Berlin")
