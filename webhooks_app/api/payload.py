"""How is an event's body shown within an answer? As it was sent, by whoever writes the answer.

A module of its own, since renderers import it, which DRF loads before its views.
"""

from __future__ import annotations

import json
from typing import Any


class Payload:
    """The body of an event within an answer; no dataclass, which orjson would write itself."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def tolist(self) -> Any:
        """Return what it says; DRF's own encoder asks for it by this name."""
        return json.loads(self.body)
