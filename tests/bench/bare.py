"""What is the best that aiohttp can do? A loop that posts prepared requests, without a database.

It runs in a process of its own on uvloop, with the engine's garbage collector settings, and
posts the bytes, headers and URLs that the engine would.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import uvloop
from yarl import URL

IN_FLIGHT = 64

_Request = tuple[URL, dict[str, str], bytes]


def _prepared(urls: list[str], count: int, secret: str) -> Iterator[_Request]:
    from tests.bench.messages import BODY
    from webhooks_app.signing import scheme

    for number in range(count):
        event_id, timestamp = f"msg_{secrets.token_hex(16)}", int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": scheme.signature_header([secret], event_id, timestamp, BODY),
            "webhook-attempt": "1",
            "webhook-event": "task.completed",
        }
        yield URL(urls[number % len(urls)], encoded=True), headers, BODY


async def _post_all(requests: list[_Request]) -> tuple[float, float]:
    waiting = iter(requests)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )

    async def work() -> None:
        for url, headers, body in waiting:
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

    async with session:
        begin, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return time.monotonic() - begin, time.process_time() - cpu


async def _post_singly(requests: list[_Request]) -> list[list[Any]]:
    """Post one at a time over a warm connection; return (webhook-id, when it started)."""
    started = []
    async with aiohttp.ClientSession() as session:
        for url, headers, body in requests:
            started.append([headers["webhook-id"], time.monotonic()])
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()
            await asyncio.sleep(0.02)
    return started


def run(urls: list[str], count: int, secret: str, *, singly: bool = False) -> Any:
    """Post ``count`` requests in a new process.

    Returns: (seconds, seconds of CPU); or, ``singly``, a list of (webhook-id, monotonic start).
    """
    order = {"urls": urls, "count": count, "secret": secret, "singly": singly}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bare", json.dumps(order)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Do what the argument says, and print the outcome as JSON."""
    from webhooks_app.delivery.thread import tune_garbage_collector

    order = json.loads(sys.argv[1])
    tune_garbage_collector()
    requests = list(_prepared(order["urls"], order["count"], order["secret"]))
    if order["singly"]:
        print(json.dumps(uvloop.run(_post_singly(requests))))
    else:
        print(json.dumps(uvloop.run(_post_all(requests))))


if __name__ == "__main__":
    from tests.bench import place

    place.set_up_django()
    main()
