"""What may be shown of the bytes that a receiver sent?"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str, limit: int = 2048) -> str:
    """Return text of a receiver without control characters, cut to ``limit`` characters."""
    return _CONTROL.sub("?", text[:limit])
