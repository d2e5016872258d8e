"""Is a job's progress read from its events, and followed through breaks?"""

import asyncio
import uuid

from tasks_app.providers.comfyui import server, watch
from tasks_app.providers.comfyui.watch import Progress, Watched
from tests.support.comfyui import ask, still
from tests.support.forward_proxy import ForwardProxy
from tests.support.waiting import wait_until


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


def test_a_job_is_followed_to_its_end(comfy, monkeypatch):
    """Proves that a submitted job's progress grows and its end is told, over one socket of it.

    The socket goes through a forward proxy as the other requests do.
    """
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.2)
    comfy.state.seconds = 0.6
    watched, prompt_id, told = Watched(), str(uuid.uuid4()), []

    def report(job_id, fraction, step):
        told.append((job_id, fraction))
        if fraction == 1:
            watched.forget("a", job_id)

    async def follow(line):
        watched.expect("a", prompt_id, 3)
        await server.submit(line, prompt_id, still(), {})
        await watched.follow("a", line, report)

    with ForwardProxy() as forward:
        ask(comfy, lambda line: asyncio.wait_for(follow(line), 30), proxy=forward.url)
        assert len(forward.asked) >= 2, "a tunnel for the submit and one for the socket"
    fractions = [fraction for _, fraction in told]
    assert {job_id for job_id, _ in told} == {prompt_id}
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any(0 < fraction < 1 for fraction in fractions)


def test_a_server_that_dies_breaks_nothing(comfy, monkeypatch):
    """Proves that a broken socket is opened anew when the server is back."""
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(watch, "AGAIN_SECONDS", 0.1)
    watched, prompt_id = Watched(), str(uuid.uuid4())

    def report(job_id, fraction, step):
        if fraction == 1:
            watched.forget("a", job_id)

    async def follow(line):
        watched.expect("a", prompt_id, 3)
        following = asyncio.create_task(watched.follow("a", line, report))
        await asyncio.to_thread(comfy.sees, "GET /ws")
        await asyncio.to_thread(comfy.kill)
        await asyncio.to_thread(comfy.start)
        await asyncio.to_thread(comfy.sees, "GET /ws", 2)
        await server.submit(line, prompt_id, still(), {})
        await following

    ask(comfy, lambda line: asyncio.wait_for(follow(line), 30))


def test_a_job_that_others_look_after_is_forgotten(comfy, monkeypatch):
    """Proves that a job which this process looks at no more does not keep its socket for ever."""
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(watch, "FORGET_SECONDS", 0.3)
    watched = Watched()
    watched.expect("a", str(uuid.uuid4()), 3)
    ask(comfy, lambda line: asyncio.wait_for(watched.follow("a", line, print), 20))
    wait_until(lambda: all(each.closed for each in comfy.state.sockets.values()), 20)
