"""Which moment does an operator mean by "14:00", "yesterday 18:00" or "2h"?

For commands and forms; the API takes RFC 3339 only. Pure: the present is an argument.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

#: What a field or an option says of itself.
FORMS = "14:00, yesterday 18:00, 2h (ago), 2025-01-15T14:00, or with a zone of its own"
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_AGO = re.compile(r"(\d{1,6}) ?(s|min|m|h|d)(?: ago)?", re.ASCII)
_OF_A_DAY = re.compile(r"(?:(today|yesterday) ?)?(?:(\d{1,2}):(\d\d)(?::(\d\d))?)?", re.ASCII)


def zone_of(name: str) -> tzinfo:
    """Return the time zone with an IANA name, such as ``Europe/Berlin``; empty means UTC.

    Raises:
        ValueError: there is none; the sentence names those that are spelt alike.
    """
    name = name.strip()
    if name.upper() in ("", "UTC", "Z"):
        return UTC
    known = {zone.lower(): zone for zone in available_timezones()}
    if found := known.get(name.lower()):
        return ZoneInfo(found)
    ends = {zone.rpartition("/")[2]: full for zone, full in known.items()}
    near = difflib.get_close_matches(name.lower()[:60], [*known, *ends], n=3)
    meant = ", ".join(sorted({known.get(one) or ends[one] for one in near}))
    hint = f"did you mean {meant}?" if meant else "use an IANA name such as Europe/Berlin"
    raise ValueError(f"there is no time zone {name[:60]!r}; {hint}")


def moment_of(text: str, now: datetime, zone: tzinfo = UTC) -> datetime:
    """Return the moment that the words mean, in ``zone`` unless they name another.

    A time of day is today's. What the clocks show twice in a night means the first of the two.

    Args:
        now: the present, with a zone.

    Raises:
        ValueError: the words are no moment, or one that no calendar has.
    """
    words = " ".join(text.strip().lower().split())
    try:
        if ago := _AGO.fullmatch(words):
            seconds = int(ago[1]) * _UNITS[ago[2]]
            return (now - timedelta(seconds=seconds)).astimezone(zone).replace(microsecond=0)
        if words and (of_a_day := _OF_A_DAY.fullmatch(words)):
            return _on_a_day(of_a_day, now.astimezone(zone))
        if re.match(r"\d{4}-\d\d-\d\d", words):
            found = datetime.fromisoformat(text.strip())
            found = found if found.tzinfo else found.replace(tzinfo=zone)
            found.astimezone(UTC)  # the first and last years overflow in some zones
            return found
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{text[:60]!r} is no time; use {FORMS}")


def _on_a_day(found: re.Match[str], now: datetime) -> datetime:
    day = now.date() - timedelta(days=found[1] == "yesterday")
    at = time(int(found[2] or 0), int(found[3] or 0), int(found[4] or 0))
    return datetime.combine(day, at, now.tzinfo)


def span_of(
    since: str, until: str, now: datetime, zone: tzinfo = UTC
) -> tuple[datetime | None, datetime | None]:
    """Return the two moments of a span; empty words mean that it is open at that end.

    Raises:
        ValueError: as for `moment_of`, or nothing can lie in it.
    """
    begin = moment_of(since, now, zone) if since.strip() else None
    end = moment_of(until, now, zone) if until.strip() else None
    if begin and begin > now:
        hint = f"; for the day before say yesterday {since.strip()}" if ":" in since[:3] else ""
        raise ValueError(f"{begin:%Y-%m-%d %H:%M %Z} has not come yet{hint}")
    if begin and end and end <= begin:
        raise ValueError(f"{end:%Y-%m-%d %H:%M %Z} is not after {begin:%Y-%m-%d %H:%M %Z}")
    return begin, end
