"""How are ids, times, origins and known words written? Each has one form, for all who use it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

# Regular expressions of the whole text.
PROJECT_ID = r"[A-Za-z0-9_-]{1,100}"
PROJECT_ID_SHAPE = "Use 1 to 100 letters, digits, '_' or '-'."
UUID_TEXT = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: What every ``webhook-id`` begins with.
EVENT_ID_PREFIX = "msg_"
#: Before a credential's name on a message: it goes to another origin, so without the credential.
LEFT_OFF = "-"
#: A ``webhook-id``, or the beginning of one.
EVENT_ID = EVENT_ID_PREFIX + "[A-Za-z0-9_-]{4,60}"
#: The only event type of the webhook app itself; all others come from the project.
PING = "webhook.ping"
#: The largest id of a row.
BIGGEST_ID = 2**63 - 1
DEFAULT_PORTS = {"http": 80, "https": 443}


def rfc3339(moment: datetime, timespec: str = "auto") -> str:
    """Return an aware time as 2025-01-15T10:35:30.123456Z; ``timespec`` is `isoformat`'s."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def counted(count: int, noun: str) -> str:
    """Return ``1 message`` or ``2,000 messages``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def origin_text(scheme: str, host: str, port: int) -> str:
    """Return ``scheme://host:port``, without the port where it is the scheme's own."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port == DEFAULT_PORTS.get(scheme) else f":{port}")


SUGGESTION = " Did you mean "
#: Longer words are not taken for slips of the pen; the longest known one has 25 characters.
MAX_WORD = 40


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `` Did you mean "x"?``, or nothing when no known word is near."""
    if len(word) > MAX_WORD:
        return ""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'{SUGGESTION}"{near[0]}"?' if near else ""


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter and ends with a full stop."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".?") + ("?" if text.endswith("?") else ".")


class Payload:
    """The body of an event within an answer; no dataclass, which orjson would write itself."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def tolist(self) -> Any:
        """Return what it says; DRF's own encoder asks for it by this name."""
        return json.loads(self.body)
