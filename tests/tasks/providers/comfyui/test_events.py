"""Is a job's progress read from its events?"""

import asyncio
import uuid
from contextlib import aclosing
from pathlib import Path

from tasks_app.providers.comfyui import server
from tasks_app.providers.comfyui.events import Progress, picture_in
from tasks_app.providers.comfyui.provider import ComfyUIProvider
from tasks_app.providers.remote.base import Work
from tests.support.comfyui import ask, still
from tests.support.forward_proxy import ForwardProxy


def event(kind, **data):
    return {"type": kind, "data": data}


def states(**shares):
    return {
        node: {"state": "finished" if share == 1 else "running", "value": share * 20, "max": 20.0}
        for node, share in shares.items()
    }


def test_progress_is_finished_nodes_and_the_running_ones_steps():
    """Proves that cached and finished nodes count whole, the running one by its steps."""
    progress = Progress(4)
    assert not progress.read(event("execution_cached", nodes=["a"]))
    assert progress.fraction == 0.25
    progress.read(event("progress_state", nodes=states(b=1, c=0.5)))
    assert progress.fraction == 0.625
    progress.read(event("progress_state", nodes=states(b=0.5)))
    assert progress.fraction == 0.625, "it never falls"
    assert progress.read(event("execution_success"))
    assert progress.fraction < 1


def test_odd_events_are_passed_over():
    """Proves that no event of a server can break the following."""
    progress = Progress(0)
    for odd in (
        {},
        {"type": "progress_state", "data": 3},
        event("progress_state", nodes={"a": None, "b": {"state": "running", "value": "x"}}),
        event("progress_state", nodes={"a": {"state": "running", "value": 3, "max": 0}}),
        event("execution_cached", nodes=3),
        event("execution_cached", nodes=[["a"]]),
    ):
        progress.read(odd)
    assert progress.fraction == 0


def test_a_picture_is_found_in_both_kinds_of_messages():
    """Proves that a preview is read with and without metadata, and nothing else is one."""
    assert picture_in(bytes([0, 0, 0, 1, 0, 0, 0, 2]) + b"picture") == b"picture"
    assert picture_in(bytes([0, 0, 0, 4, 0, 0, 0, 2]) + b"{}picture") == b"picture"
    for odd in (b"", b"\0", bytes(8), bytes([0, 0, 0, 4, 255, 255, 255, 255]) + b"{}picture"):
        assert picture_in(odd) == b""


def test_a_job_is_followed_to_its_end(comfy):
    """Proves that a job's progress grows and its end is told, over one socket of its own.

    The socket goes through a forward proxy as the other requests do.
    """
    comfy.state.seconds = 0.6
    told, provider = [], ComfyUIProvider()
    job_id = str(uuid.uuid4())
    remote = {"id": job_id, "nodes": 3}
    work = Work(job_id, "", 1, "image_generation", {}, "", "a", remote, "", Path())

    async def follow(line):
        following = provider.follow(work, line)
        async with aclosing(following):
            async for status in following:
                if not told:
                    await server.submit(line, job_id, still(), {})
                told.append(status)
                if status.is_done:
                    return

    with ForwardProxy() as forward:
        ask(comfy, lambda line: asyncio.wait_for(follow(line), 30), proxy=forward.url)
        assert len(forward.asked) >= 2, "a tunnel for the submit and one for the socket"
    fractions = [status.fraction for status in told]
    assert fractions == sorted(fractions)
    assert any(0 < fraction < 1 for fraction in fractions)
    assert [status.is_done for status in told].count(True) == 1
