"""Who sends requests to the web server? A process with a fixed number of busy connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import uvloop

CONNECTIONS = 16


def document(project_id: str) -> dict[str, Any]:
    """Return the contract's example submit, with a callback on loopback."""
    return {
        "project_id": project_id,
        "task_type": "video_generation",
        "callback_url": "http://127.0.0.1:20001/api/webhooks/task-complete",
        "task_data": {
            "scene_data": {"prompt": "Generate video"},
            "video_params": {"resolution": "1920x1080"},
        },
        "metadata": {"userId": "user-123", "testResultId": "result-456"},
    }


async def _post(url: str, key: str, count: int) -> dict[str, Any]:
    body = json.dumps(document("bench")).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    left, statuses = iter(range(count)), []

    async def work(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()
                statuses.append(response.status)

    async with aiohttp.ClientSession() as session:
        begin = time.monotonic()
        await asyncio.gather(*(work(session) for _ in range(CONNECTIONS)))
        seconds = time.monotonic() - begin
    return {"seconds": seconds, "created": statuses.count(201)}


def main() -> None:
    """Post as the order says."""
    from tests.bench.children import answer_lines

    def answer(order: Mapping[str, Any]) -> dict[str, Any]:
        return uvloop.run(_post(order["url"], order["key"], order["count"]))

    answer_lines(answer)


if __name__ == "__main__":
    main()
