"""Is what a provider tells over a stream only ever a hint? fal's status, as server-sent events.

https://fal.ai/docs/inference-api/queue/status-stream
"""

import asyncio
import json
import threading
import time

import pytest
from django.utils import timezone

from tasks_app.models import RemoteJob
from tasks_app.providers.remote.base import JobStatus
from tasks_app.providers.remote.fal import FalProvider
from tasks_app.remote_work import watchers, writes
from tasks_app.state import lifecycle, remote_jobs
from tests.support.comfyui import painter, write
from tests.support.fake_provider import Reply, Stream
from tests.support.forward_proxy import ForwardProxy
from tests.support.remote_work import KEY, MODEL, begin, ended, job_of, remote_work, use
from tests.support.servers.comfyui import ComfyUI
from tests.support.waiting import wait_until
from webhooks_app.transport import streams

pytestmark = pytest.mark.django_db(transaction=True)
STATUS = f"GET /{MODEL}/requests/f1/status"
STREAM = f"{STATUS}/stream?logs=1"
FOREVER = 10**9


def status(state, *logs):
    """Return an event as fal sends it."""
    rows = [
        {"message": text, "level": "STDERR", "source": "USER", "timestamp": "2026-01-01T00:00:00"}
        for text in logs
    ]
    members = {"queue_position": 2} if state == "IN_QUEUE" else {"logs": rows}
    event = json.dumps({"status": state, "request_id": "f1", **members})
    return f"data: {event}\n\n".encode()


def stream(*parts):
    return Stream(lambda: parts)


def repeated(part, pause=0.0):
    """Return a stream that says the same again and again."""

    def parts():
        while True:
            yield part
            yield pause

    return Stream(parts)


def jobs_at(fake, names):
    """Let the next submits get these ids, in this order; return the call that looks at each."""
    queue = f"{fake.url}/{MODEL}/requests"
    fake.script[f"POST /{MODEL}"] = [
        {
            "request_id": name,
            "status_url": f"{queue}/{name}/status",
            "response_url": f"{queue}/f1",
            "cancel_url": f"{queue}/f1/cancel",
        }
        for name in names
    ]
    return {name: f"GET /{MODEL}/requests/{name}/status" for name in names}


def test_a_stream_tells_progress_and_the_end_at_once(fake, settings):
    """Proves that a bar in the logs moves the task, and COMPLETED brings the look that ends it.

    The stream is asked for with the provider's key, through its forward proxy.
    """
    use("fal", poll_seconds=600)
    seen = threading.Event()

    def parts():
        yield status("IN_QUEUE")
        yield b": ping\n\n"
        yield status("IN_PROGRESS", "loading")
        while not seen.is_set():  # progress is stored once a second, and what comes between is lost
            yield 0.2
            yield status("IN_PROGRESS", "  0%|   | 0/28", "\r 50%|#####    | 14/28 [00:05<00:05]")
        yield status("COMPLETED")

    fake.script[STREAM] = [Stream(parts)]
    fake.script[STATUS] = [{"status": "COMPLETED"}]
    with ForwardProxy() as forward, remote_work():
        settings.PROVIDER_PROXY = [forward.url]
        task = begin()

        def progress():
            task.refresh_from_db()
            return task.progress

        wait_until(lambda: progress() > 0.5, 30, "the bar is seen")
        assert fake.count(STATUS) == 0
        seen.set()
        task = ended(task)
        assert len(forward.asked) >= 3, "the submit, the stream and a look"
    assert task.status == "completed"
    assert (fake.count(STATUS), fake.count(STREAM)) == (1, 1)
    [asked] = fake.calls(STREAM)
    assert asked.headers["authorization"] == f"Key {KEY}"


#: What a stream may be, or say, instead of what fal documents.
ODD = {
    "refused": Reply(404),
    "no-stream": {"status": "COMPLETED"},
    "moved": Reply(302, headers={"location": "https://elsewhere.example/"}),
    "empty": stream(),
    "cut": stream(status("IN_PROGRESS"), b"data: {"),
    "silent": stream(True),
    "endless": repeated(status("IN_PROGRESS", "100%|#")),
    "without-an-event": repeated(b": " + b"x" * 20_000 + b"\n"),
    "with-too-long-an-event": repeated(b"data: " + b"x" * 20_000 + b"\n"),
    "garbage": repeated(b"data: \xff\x00\n\ndata: [1]\n\ndata: {}\n\n"),
    "odd": repeated(b'data: {"status": "IN_PROGRESS", "logs": [3, {"message": {"a": 1}}]}\n\n'),
    "too-early": stream(status("COMPLETED")),
}


def test_what_a_stream_says_changes_no_result(fake, monkeypatch):
    """Proves that looks alone decide, whatever a stream says, and that nothing is left of it."""
    use("fal")
    monkeypatch.setattr(watchers, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.5)
    looks = jobs_at(fake, ODD)
    for name, told in ODD.items():
        fake.script[f"{looks[name]}/stream?logs=1"] = [told]
        running = [{"status": "IN_PROGRESS"}] * 3
        fake.script[looks[name]] = [{"status": "IN_QUEUE"}, *running, {"status": "COMPLETED"}]
    with remote_work():
        tasks = [ended(task, 60) for task in [begin() for _ in ODD]]
        wait_until(lambda: fake.open_streams == 0, 30, "the streams are closed")
    assert {(task.status, task.attempts, task.result["width"]) for task in tasks} == {
        ("completed", 0, 64)
    }
    asked = {name: fake.count(f"{looks[name]}/stream?logs=1") for name in ODD}
    assert all(asked.values()), asked
    counts = {name: fake.count(look) for name, look in looks.items()}
    assert counts == dict.fromkeys(ODD, 5), "each look is one of the loop's own"


def test_a_stream_that_lies_is_asked_once(fake):
    """Proves that an end which is none brings one look, and not one after the other."""
    use("fal", poll_seconds=600)
    fake.script[STREAM] = [stream(status("COMPLETED"))]
    fake.script[STATUS] = [{"status": "IN_PROGRESS"}]
    with remote_work():
        task = begin()
        wait_until(lambda: fake.count(STATUS) == 1, 30)
        wait_until(lambda: job_of(task).look_token is None, 30)
        threading.Event().wait(1.5)  # several ticks of the loop
        assert (fake.count(STATUS), fake.count(STREAM)) == (1, 1)


def test_open_streams_are_bounded_and_their_room_is_used_again(fake, monkeypatch):
    """Proves that no more jobs are followed than agreed; the others end by looks."""
    use("fal", poll_seconds=0.2)
    monkeypatch.setattr(FalProvider, "streams", 2)
    names = [f"f{number}" for number in range(5)]
    looks = jobs_at(fake, names)
    for name in names:
        fake.script[f"{looks[name]}/stream?logs=1"] = [stream(True)]
        fake.script[looks[name]] = [{"status": "IN_PROGRESS"}]

    def followed():
        return {name for name in names if fake.count(f"{looks[name]}/stream?logs=1")}

    with remote_work():
        tasks = [begin() for _ in names]
        wait_until(lambda: fake.open_streams == 2, 30)
        for name in names:
            wait_until(lambda name=name: fake.count(looks[name]) > 5, 60)
        first = followed()
        assert len(first) == fake.most_streams == 2
        by_name = {job_of(task).remote["id"]: task for task in tasks}
        for name in first:
            lifecycle.cancel(by_name.pop(name).id)
        wait_until(lambda: len(followed()) == 4, 30, "two others are followed")
        for name in names:
            fake.script[looks[name]] = [{"status": "COMPLETED"}]
        assert {ended(task).status for task in by_name.values()} == {"completed"}
        wait_until(lambda: fake.open_streams == 0, 30)
    assert fake.most_streams == 2


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_stream_is_closed_at_a_cancel_and_at_a_drain(fake, is_cancelled):
    """Proves that an open stream keeps neither a cancelled job nor a stopping worker."""
    use("fal", poll_seconds=0.2)
    fake.script[STREAM] = [stream(status("IN_PROGRESS"), True)]
    fake.script[STATUS] = [{"status": "IN_PROGRESS"}]
    with remote_work():
        task = begin()
        wait_until(lambda: fake.open_streams == 1, 30)
        if is_cancelled:
            lifecycle.cancel(task.id)
            wait_until(lambda: fake.open_streams == 0, 30)
    wait_until(lambda: fake.open_streams == 0, 30)
    assert fake.count(STREAM) == 1


def test_a_broken_stream_is_opened_again_after_growing_waits(fake, monkeypatch):
    """Proves that each wait is twice the one before, so that a server in trouble is let alone."""
    use("fal", poll_seconds=600)
    monkeypatch.setattr(watchers, "AGAIN_SECONDS", 0.2)
    opened = []

    def parts():
        opened.append(time.monotonic())
        return [status("IN_PROGRESS")]

    fake.script[STREAM] = [Stream(parts)]
    with remote_work():
        begin()
        wait_until(lambda: len(opened) >= 5, 60)
    # 3 s: only the first may have been noticed late. Without growth it would be 0.8 s.
    assert opened[4] - opened[0] > 1.6


def test_a_job_that_others_look_after_is_followed_no_longer(fake, monkeypatch):
    """Proves that a stream which no look renews is closed, and no job keeps one for ever."""
    use("fal", poll_seconds=600)
    monkeypatch.setattr(watchers, "FORGET_SECONDS", 0.5)
    fake.script[STREAM] = [repeated(status("IN_PROGRESS"), 0.05)]
    with remote_work():
        begin()
        wait_until(lambda: fake.open_streams == 1, 30)
        wait_until(lambda: fake.open_streams == 0, 30)
    assert fake.count(STREAM) == 1


def test_a_websocket_is_opened_again_when_its_server_is_back(settings, tmp_path, monkeypatch):
    """Proves that ComfyUI's events are followed over a break by the same rules."""
    monkeypatch.setattr(watchers, "AGAIN_SECONDS", 0.1)
    with ComfyUI() as comfy:
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
        settings.COMFYUI_URLS = [f"gpu-a={comfy.url}"]
        settings.COMFYUI_LOST_SECONDS = FOREVER
        settings.COMFYUI_WORKFLOWS = str(write(tmp_path / "workflows", painter=painter()))
        use("comfyui", model="painter", poll_seconds=600)
        comfy.hold()
        with remote_work():
            task = begin()
            assert comfy.sees("GET /ws")
            comfy.kill()
            comfy.start()
            assert comfy.sees("GET /ws", 2)
            assert job_of(task).state == "running"


def test_an_end_that_is_told_during_a_look_is_told_again(monkeypatch):
    """Proves that a hint which meets an open look is not lost: the look may have come too early."""
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0)
    asked = []

    async def store(write, job_id):
        asked.append(write)
        return len(asked) > 1

    for _ in range(2):  # the first one is refused once, the second one never
        asyncio.run(writes.Writes(store).told("f1", JobStatus(is_done=True)))
    assert asked == [remote_jobs.has_news] * 3


def test_a_flood_of_events_is_read_slowly(monkeypatch):
    """Proves that a server which tells something all the time does not keep the loop busy."""
    monkeypatch.setattr(watchers, "MOST_PER_SECOND", 10)
    told = []

    class Flooding(FalProvider):
        async def follow(self, work, line):
            while True:
                yield JobStatus(False, 0.5)

    class Lines:
        def to(self, *server):
            return None

    async def tell(job_id, status):
        told.append(status)

    async def follow():
        found = watchers.Watchers(tell, Lines())
        job = RemoteJob(provider="fal", server="fal", deadline=timezone.now())
        found.need(job, Flooding(model=MODEL))
        began_at = time.monotonic()
        while len(told) <= 20:
            await asyncio.sleep(0.01)
        await found.close()
        return time.monotonic() - began_at

    assert asyncio.run(asyncio.wait_for(follow(), 60)) > 1.9


def test_many_jobs_that_tell_their_progress_cost_few_writes():
    """Proves that what streams tell is stored a few times a second, and what looks find always."""
    stored = []

    async def store(write, job_id, *_, **__):
        stored.append(job_id)

    async def tell():
        kept = writes.Writes(store)
        for number in range(100):
            await kept.told(f"told-{number}", JobStatus(False, 0.5))
        for number in range(100):
            await kept.progress(f"seen-{number}", JobStatus(False, 0.5))

    began_at = time.monotonic()
    asyncio.run(tell())
    told = sum(name.startswith("told") for name in stored)
    most = writes.HINTS_PER_SECOND * (time.monotonic() - began_at + 1) + 1
    assert writes.HINTS_PER_SECOND <= told <= most
    assert len(stored) == told + 100
