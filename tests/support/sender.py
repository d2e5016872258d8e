"""How much memory does a process need that sends to odd receivers again and again?

``python -m tests.support.sender ROUNDS URL...`` sends one request to every URL at once, ROUNDS
times, and prints by how many kilobytes the peak of its memory grew.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import django
import uvloop


async def send(rounds: int, urls: list[str]) -> int:
    """Return the growth in kilobytes."""
    from webhooks_app.transport import wire
    from webhooks_app.transport.client import Transport

    wire.BODY_SECONDS = 0.2
    async with Transport() as transport:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(rounds):
            await asyncio.gather(*(transport.send(url, {}, b"{}", timeout=0.5) for url in urls))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


if __name__ == "__main__":
    django.setup()
    print(uvloop.run(send(int(sys.argv[1]), sys.argv[2:])))
