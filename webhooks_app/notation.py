"""How are ids, times and origins written? Each has one form here, for all who read or show it."""

from __future__ import annotations

from datetime import UTC, datetime

# Regular expressions of the whole text.
PROJECT_ID = r"[A-Za-z0-9_-]{1,100}"
PROJECT_ID_SHAPE = "Use 1 to 100 letters, digits, '_' or '-'."
UUID_TEXT = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: What every ``webhook-id`` begins with.
EVENT_ID_PREFIX = "msg_"
#: Before a credential's name on a message: it goes to another origin, so without the credential.
LEFT_OFF = "-"
#: The largest id of a row.
BIGGEST_ID = 2**63 - 1
DEFAULT_PORTS = {"http": 80, "https": 443}


def rfc3339(moment: datetime, timespec: str = "auto") -> str:
    """Return an aware time as 2025-01-15T10:35:30.123456Z; ``timespec`` is `isoformat`'s."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def origin_text(scheme: str, host: str, port: int) -> str:
    """Return ``scheme://host:port``, without the port where it is the scheme's own."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port == DEFAULT_PORTS.get(scheme) else f":{port}")
