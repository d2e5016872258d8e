"""What does a server tell by itself? The messages of a WebSocket, or server-sent events.

Both are bounded, whatever the server does: how long one message may be, how much one stream may
bring, and how long it may be silent. The texts of errors are our own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp
from yarl import URL

from webhooks_app.transport.download import CONNECT_SECONDS, explain

#: Of a WebSocket: how often it is asked for a sign of life, and the longest message.
PING_SECONDS = 20.0
MAX_MESSAGE_BYTES = 4 << 20
#: Of server-sent events: the longest one, what one stream may bring, and how long it may be silent.
MAX_EVENT_BYTES, MAX_STREAM_BYTES = 256 << 10, 4 << 20
SILENT_SECONDS = 60.0


async def messages(
    session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]
) -> AsyncIterator[str | bytes]:
    """Yield the messages of a WebSocket, text or binary. See ``Transport.listen``."""
    try:
        async with session.ws_connect(
            url, headers=headers, heartbeat=PING_SECONDS, max_msg_size=MAX_MESSAGE_BYTES
        ) as socket:
            async for message in socket:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    yield message.data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ConnectionError(explain(error)[1]) from None


async def events(
    session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    """Yield the data of each event of a stream. See ``Transport.events``."""
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
    )
    sent = {**headers, "Accept": "text/event-stream"}
    try:
        async with session.get(
            url, headers=sent, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200 or response.content_type != "text/event-stream":
                raise ConnectionError("the answer is no stream of events")
            async for data in _data_of(response.content):
                yield data
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConnectionError(explain(error)[1]) from None


async def _data_of(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Read events as in the HTML standard, section 9.2.6; only ``data`` means something here."""
    size, rest = 0, b""
    data: list[bytes] = []
    async for chunk in content.iter_any():
        size += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif not line.rstrip(b"\r") and data:
                yield b"\n".join(data)
                data = []
        if (
            size > MAX_STREAM_BYTES
            or len(rest) + sum(len(each) + 1 for each in data) > MAX_EVENT_BYTES
        ):
            raise ConnectionError("the server said too much")
