"""Which files do tests hand in, and as which bytes of a form?"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

ASSETS = "/api/v1/assets"
BOUNDARY = "a-boundary-of-tests"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def png(seed: int = 0, side: int = 64) -> bytes:
    """Return a picture of noise; another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def form(content: bytes, fields: Mapping[str, str] | None = None, name: str = "a.png") -> bytes:
    """Return the body of a form with one file."""
    lines = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in (fields or {}).items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return "".join([*lines, head]).encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def head(key: str, *lines: str) -> bytes:
    """Return the head of an upload, up to the empty line."""
    fixed = (f"POST {ASSETS} HTTP/1.1", "Host: 127.0.0.1", "Connection: close")
    sent = (*fixed, f"X-API-Key: {key}", f"Content-Type: {CONTENT_TYPE}", *lines, "", "")
    return "\r\n".join(sent).encode()
