"""What does a guarded download give, and how is its body kept within bounds?

Opens no client of its own: ``Transport.fetch`` does that and calls ``store`` with the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from webhooks_app.probes import shown_headers


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a guarded download came to. ``error_code`` is empty when the whole body was stored.

    ``body`` is empty when the body went to a file. Besides the codes of an attempt there is
    ``too_large``. Any HTTP status counts as an answer: the caller judges ``status``.
    """

    status: int | None = None
    error_code: str = ""
    error: str = ""
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    size: int = 0


async def store(response: aiohttp.ClientResponse, max_bytes: int, to: Path | None) -> FetchResult:
    """Read a whole body, to memory or to a file, unless it is longer than allowed."""
    chunks: list[bytes] = []
    size = 0
    # Writing blocks the loop for a moment; a download has a loop of its own (fetch_sync).
    file = to.open("wb") if to is not None else None
    try:
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > max_bytes:
                break
            if file is None:
                chunks.append(chunk)
            else:
                file.write(chunk)
        is_complete = size <= max_bytes
    except BaseException:
        is_complete = False
        raise
    finally:
        if file is not None and to is not None:
            file.close()
            if not is_complete:
                to.unlink(missing_ok=True)
    if not is_complete:
        return FetchResult(response.status, "too_large", f"more than {max_bytes} bytes")
    headers = {name.lower(): value for name, value in shown_headers(response.raw_headers)}
    return FetchResult(response.status, headers=headers, body=b"".join(chunks), size=size)
