"""Which values does a field of a task take that no other request has?"""

from __future__ import annotations

import re
from typing import Any

from tasks_app.models import Priority
from webhooks_app.api.fields import Choice, Refused, Text, checked_url
from webhooks_app.egress import MAX_URL_LENGTH

_MEDIA_ID = r"[0-9a-f]{16,32}"
_PRIORITIES = {label: value for value, label in Priority.choices}


class Resolution(Text):
    """``WIDTHxHEIGHT`` in pixels, both even, within the bounds of the medium."""

    MOST_PIXELS = 8_294_400

    def __init__(
        self, *, width: tuple[int, int], height: tuple[int, int], is_even: bool = True, **kw: Any
    ) -> None:
        self.width, self.height, self.is_even = width, height, is_even
        shape = "Use WIDTHxHEIGHT in pixels, for example 1920x1080."
        super().__init__(max_length=11, shape=shape, **kw)

    def schema(self) -> dict[str, Any]:
        """Return the form."""
        return {"type": "string", "pattern": "^[1-9][0-9]{2,3}x[1-9][0-9]{2,3}$"}

    def to_internal_value(self, data: Any) -> str:
        """Return the text, for example ``1920x1080``."""
        text = super().to_internal_value(data)
        match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text, re.ASCII)
        if match is None:
            raise Refused("bad_format", self.shape)
        width, height = int(match[1]), int(match[2])
        for name, size, (least, most) in (
            ("width", width, self.width),
            ("height", height, self.height),
        ):
            if not least <= size <= most:
                raise Refused("out_of_range", f"The {name} must be from {least} to {most} pixels.")
        if self.is_even and (width % 2 or height % 2):
            raise Refused("bad_format", "Width and height must be even.")
        if width * height > self.MOST_PIXELS:
            raise Refused("out_of_range", f"At most {self.MOST_PIXELS} pixels in all.")
        return text


class Reference(Text):
    """An image to go by: an https URL that we may dial, or the id of a media file of ours."""

    def __init__(self, **kw: Any) -> None:
        super().__init__(max_length=MAX_URL_LENGTH, **kw)

    def to_internal_value(self, data: Any) -> str:
        """Return the reference."""
        text = super().to_internal_value(data)
        if re.fullmatch(_MEDIA_ID, text):
            return text
        if not text.startswith("https://"):
            raise Refused("bad_format", "Use an https URL or the id of a media file.")
        return checked_url(text)


class PriorityField(Choice):
    """high, normal or low; 1, 2 and 3 mean the same."""

    def __init__(self, **kw: Any) -> None:
        super().__init__([*_PRIORITIES, *Priority.values], **kw)

    def to_internal_value(self, data: Any) -> Any:
        """Return the number."""
        value: Any = super().to_internal_value(data)
        return _PRIORITIES.get(value, value)
