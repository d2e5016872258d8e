"""Does the main job work with every real part? Submit, render, signed webhook, every row.

The processes of `manage.py run`, the previz renderer, a receiver on loopback, and the tables read
with SQL of the test's own.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import psutil
import psycopg
import pytest
from playwright.sync_api import expect
from psycopg.rows import dict_row

from moviesvc.run import embedded
from tasks_app.task_types import TASK_TYPES
from tests.e2e.conftest import ROOT, Service
from tests.support import browser
from tests.support.factories import SEED_REQUEST
from tests.support.family import is_running, kill
from tests.support.receiver import Receiver, Request
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

_ATTEMPTS = """
SELECT delivery.attempt_number, delivery.outcome, delivery.response_status, delivery.error_code,
  delivery.trigger, message.status, event.event_id, event.body
FROM webhooks_app_webhookdelivery delivery
JOIN webhooks_app_webhookmessage message ON message.id = delivery.message_id
JOIN webhooks_app_webhookevent event ON event.id = message.event_id
WHERE event.subject = %s ORDER BY delivery.attempt_number
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service as `make run` starts it."""
    service = Service(tmp_path_factory.mktemp("main_job") / "var", RENDER_SLOTS="2")
    service.start()
    yield service
    service.stop()


def attempts(service: Service, task_id: str) -> list[dict[str, Any]]:
    """Return the rows of a task's webhook, one for each attempt."""
    with psycopg.connect(embedded.postgres(service.var), row_factory=dict_row) as connection:
        rows = connection.execute(_ATTEMPTS, [task_id]).fetchall()
    embedded.leave(service.var)  # else the servers would outlive the service
    return rows


def stored(service: Service, task_id: str) -> list[dict[str, Any]]:
    """Return the media records of a task's main file."""
    query = (
        "SELECT id AS payload_media_id FROM tasks_app_mediafile WHERE task_id = %s AND role = %s"
    )
    with psycopg.connect(embedded.postgres(service.var), row_factory=dict_row) as connection:
        rows = connection.execute(query, [task_id, "primary"]).fetchall()
    embedded.leave(service.var)
    return rows


#: What renders fastest.
SMALL_PICTURE = {
    "image_data": {"prompt": "A lighthouse"},
    "image_params": {"resolution": "256x256"},
}


def submit_picture(service: Service, receiver: Receiver) -> str:
    """Submit a picture for the test project."""
    return service.submit(
        project_id="test_project",
        task_type="image_generation",
        callback_url=receiver.url,
        task_data=SMALL_PICTURE,
    )


def running_tasks(service: Service, state: str = "processing") -> list[Any]:
    """Return the tasks that are worked on (or in another state), of any project."""
    status, answer = service.call("GET", f"tasks?status={state}")
    assert status == 200, answer
    return list(answer["results"])


def secret_of(service: Service) -> str:
    """Return the signing secret of the project, as its client gets it."""
    status, answer = service.call("GET", "webhooks/signing-secret?project_id=test_project")
    assert status == 200, answer
    return str(answer["secret"])


def waits_of(requests: list[Request]) -> list[float]:
    """Return the seconds between the requests."""
    times = [request.received_at for request in requests]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def get(url: str, **headers: str) -> tuple[int, bytes]:
    """GET a link without a key, as a browser does."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return response.status, response.read()


def test_seed_request_ends_in_a_signed_webhook_and_a_real_film(service: Service) -> None:
    """The contract's request makes a 1080p film, one verified webhook and one delivered row."""
    rows_at_arrival: list[str] = []

    def look(request: Request) -> None:
        task_id = json.loads(request.body)["task_id"]
        rows_at_arrival.extend(row["outcome"] for row in attempts(service, task_id))

    with Receiver([200], secret=secret_of(service), on_request=look) as receiver:
        body = SEED_REQUEST | {"callback_url": receiver.url}
        task_id = service.submit(**body)
        service.wait_for_status(task_id, "completed", timeout=120)
        (request,) = receiver.wait_for(1)
        wait_until(lambda: [row["outcome"] for row in attempts(service, task_id)] == ["succeeded"])
    assert rows_at_arrival == ["pending"], "an attempt is on record before it leaves"
    (row,) = attempts(service, task_id)
    assert request.is_verified
    assert request.body == bytes(row["body"])
    assert request.message_id == row["event_id"]
    assert (row["status"], row["response_status"], row["attempt_number"]) == ("delivered", 200, 1)
    payload = json.loads(request.body)
    expected = ["task_id", "project_id", "status", "result", "processing_time", "completed_at"]
    assert list(payload)[:6] == expected
    assert payload["metadata"] == SEED_REQUEST["metadata"]
    media_id = payload["result"]["payload_media_id"]
    assert re.fullmatch("[0-9a-f]{16}", media_id)
    assert list(payload["result"])[:2] == ["media_url", "payload_media_id"]
    assert [file["payload_media_id"] for file in stored(service, task_id)] == [media_id]
    _is_a_film(payload["result"])


def _is_a_film(result: dict[str, Any]) -> None:
    status, film = get(result["media_url"])
    assert (status, hashlib.sha256(film).hexdigest()) == (200, result["sha256"])
    assert get(result["media_url"], Range="bytes=4-7") == (206, b"ftyp")
    assert film.index(b"moov") < film.index(b"mdat"), "playable while it loads"
    with av.open(io.BytesIO(film)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, audio.codec.name) == ("h264", "aac")
        assert (video.width, video.height, video.average_rate) == (1920, 1080, 24)
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == round(result["duration"] * 24)
    assert abs(pictures[0].astype(int) - pictures[-1]).mean() > 1, "something moves"


def test_retries_come_after_one_and_two_seconds_with_the_same_bytes(service: Service) -> None:
    """A receiver that answers 500, 503, 202 gets three attempts, 1 and 2 s apart, all alike."""
    with Receiver([500, 503, 202], secret=secret_of(service)) as receiver:
        task_id = submit_picture(service, receiver)
        requests = receiver.wait_for(3, timeout=60)
        wait_until(lambda: len([a for a in attempts(service, task_id) if a["outcome"]]) == 3)
    first, second = waits_of(requests)
    # At most 1.2 and 2.4 s by jitter; the rest is for a busy machine.
    assert 1.0 <= first < 6
    assert 2.0 <= second < 7
    assert all(request.is_verified for request in requests)
    assert len({(request.message_id, request.body) for request in requests}) == 1
    assert [request.headers["webhook-attempt"] for request in requests] == ["1", "2", "3"]
    signed = [int(request.headers["webhook-timestamp"]) for request in requests]
    assert signed[0] < signed[1] < signed[2], "each attempt is signed with its own time"
    assert all(at <= r.received_at for at, r in zip(signed, requests, strict=True))
    assert [row["response_status"] for row in attempts(service, task_id)] == [500, 503, 202]


def test_four_failures_make_a_dead_letter_that_the_command_replays(service: Service) -> None:
    """Exactly four attempts, a dead letter, three fixed log texts; a replay delivers the same."""
    with Receiver([500], secret=secret_of(service)) as receiver:
        task_id = submit_picture(service, receiver)
        receiver.wait_for(4, timeout=60)
        dead = ["dead"] * 4
        wait_until(lambda: [row["status"] for row in attempts(service, task_id)] == dead)
        assert len(receiver.requests) == 4
        _is_logged(service.var.parent / "service.log", task_id, receiver.url)
        task = service.call("GET", f"tasks/{task_id}")[1]
        assert (task["status"], task["webhooks"]["state"]) == ("completed", "dead")
        assert get(task["result"]["media_url"])[0] == 200, "the work is none the worse for it"

        receiver.answer(204)
        ended = service.command(
            *("replay_webhooks", "--task", task_id, "--yes", "--wait", "--reason", "it is mended")
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(receiver.requests) == 5
    assert len({(request.message_id, request.body) for request in receiver.requests}) == 1
    last = attempts(service, task_id)[-1]
    assert (last["status"], last["trigger"], last["attempt_number"]) == ("delivered", "replay", 5)


def _is_logged(log: Path, task_id: str, url: str) -> None:
    """Find the attempts by the two searches that docs/WEBHOOK_IMPLEMENTATION.md prints."""
    page = (ROOT / "docs/WEBHOOK_IMPLEMENTATION.md").read_text()
    texts = re.findall(r'^grep "(.*)" service\.log', page, flags=re.M)
    every, gave_up = [
        [line for line in done.stdout.splitlines() if task_id in line]
        for text in texts
        if (done := subprocess.run(["grep", text, str(log)], capture_output=True, text=True))
    ]
    failed = f"Webhook request failed callback_url={url} error="
    assert len([line for line in every if failed in line]) == 4
    (line,) = gave_up
    assert f"Failed to send webhook after all retries callback_url={url} task_id={task_id}" in line


def test_worker_killed_in_the_middle_of_a_render_loses_nothing(service: Service) -> None:
    """kill -9 of the worker also ends its render; another makes the film and reports it once."""
    with Receiver([200], secret=secret_of(service)) as receiver:
        scene = {
            "scene_data": {"prompt": "A lighthouse"},
            "video_params": {"resolution": "640x360", "duration_s": 6},
        }
        body = SEED_REQUEST | {"callback_url": receiver.url, "task_data": scene}
        task_id = service.submit(**body)
        wait_until(lambda: service.call("GET", f"tasks/{task_id}")[1]["progress"] > 0, timeout=60)
        workers = [psutil.Process(pid) for pid in service.details["worker"]]
        renders = [child for worker in workers for child in worker.children(recursive=True)]
        assert renders, "a render runs in a process of its own"
        kill(workers)
        wait_until(lambda: not any(is_running(process) for process in renders), timeout=5)
        task = service.wait_for_status(task_id, "completed", timeout=120)
        receiver.wait_for(1)
    assert task["attempts"] == 1, "a lost worker is not charged to the task"
    assert [request.is_verified for request in receiver.requests] == [True]


def test_two_tasks_of_one_type_are_worked_on_at_once(service: Service) -> None:
    """Both of two films begin before either ends, in the one worker of the default set-up."""
    # What an earlier test left behind has a seat.
    wait_until(lambda: not running_tasks(service), timeout=60)
    with Receiver([200]) as receiver:
        film = {
            "scene_data": {"prompt": "A lighthouse"},
            "video_params": {"resolution": "640x360", "duration_s": 3},
        }
        body = SEED_REQUEST | {"callback_url": receiver.url, "task_data": film}
        ids = [service.submit(**body) for _ in range(2)]
        done = [service.wait_for_status(one, "completed", timeout=60) for one in ids]
    assert max(one["started_at"] for one in done) < min(one["finished_at"] for one in done)


def test_two_services_run_side_by_side(service: Service, tmp_path: Path) -> None:
    """A second service with its own directory and port is independent of the first."""
    second = Service(tmp_path / "var")
    second.start()
    try:
        assert second.details["api_key"] != service.details["api_key"]
        assert second.call("GET", "tasks")[1]["results"] == []
        assert service.call("GET", "health/ready")[0] == 200
    finally:
        second.stop()
    assert service.call("GET", "health/ready")[0] == 200


def test_demo_shows_three_verified_webhooks(service: Service) -> None:
    """`manage.py demo` ends with 0 when all three came, and says what is missing when not."""
    ended = service.command("demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "All three webhooks arrived, signed and verified." in ended.stdout
    ended = service.command("demo", "--timeout", "0.01")
    assert ended.returncode == 1
    assert "the demo failed" in ended.stderr
    for task in running_tasks(service) + running_tasks(service, "queued"):
        service.call("DELETE", f"tasks/{task['task_id']}")  # which nobody waits for


def test_demo_starts_what_it_needs_and_leaves_only_its_files(tmp_path: Path) -> None:
    """With nothing running, the demo runs a service, and ends it when the three are there."""
    still = dict.fromkeys(TASK_TYPES, "tests.support.providers.StillProvider")
    demo = Service(tmp_path / "var", GENERATION_PROVIDERS=json.dumps(still))
    ended = demo.command("demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    files = re.findall(rf"^  ({re.escape(str(demo.var))}/media/\S+)$", ended.stdout, re.MULTILINE)
    assert len(files) == 3
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)
    assert "under `make run` their links work again" in ended.stdout
    assert not demo.details
    assert not demo.servers()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed here")
@pytest.mark.parametrize("place", ["README.md", "banner"])
def test_curl_is_ready_to_paste(service: Service, place: str) -> None:
    """The request in the banner and the README is accepted unchanged."""
    text = (ROOT / "README.md").read_text() if place == "README.md" else service.whole_log()
    found = re.search(r"^ *curl -sS .*?'$", text, re.DOTALL | re.MULTILINE)
    assert found, text
    ended = subprocess.run(
        ["sh", "-c", found[0].replace("localhost:8001", f"localhost:{service.port}")],
        env=os.environ | {"API_KEY": service.details["api_key"]},
        capture_output=True,
        text=True,
    )
    task = json.loads(ended.stdout)
    assert (task["status"], task["project_id"]) == ("queued", "test_project"), ended.stderr
    assert service.call("DELETE", f"tasks/{task['task_id']}")[0] == 200


def test_example_of_the_readme_works(service: Service) -> None:
    """The example client submits, receives and verifies against the running service."""
    environment = os.environ | {
        "SERVICE_URL": service.details["url"],
        "API_KEY": service.details["api_key"],
    }
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples/webhook_example.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "verified webhook msg_" in ended.stdout


def test_listen_verifies_without_being_told_a_secret(service: Service) -> None:
    """The receiver of the banner's curl finds the project's secret by itself."""
    listener = service.begin("listen", "--port", "0", "--count", "1")
    assert listener.stdout is not None
    url = listener.stdout.readline().split()[-1]
    service.submit(
        project_id="heard",
        task_type="image_generation",
        callback_url=url,
        task_data=SMALL_PICTURE,
    )
    output, errors = listener.communicate(timeout=60)
    assert listener.returncode == 0, output + errors
    assert "signature verified" in output


@pytest.mark.skipif(browser.find() is None, reason=browser.MISSING)
def test_an_operator_watches_the_job_in_a_browser(service: Service) -> None:
    """With the run's own login: the film's progress, the film itself, and its webhook, live."""
    details = service.details
    base = f"http://127.0.0.1:{service.port}"
    scene = {
        "scene_data": {"prompt": "A lighthouse"},
        "video_params": {"resolution": "640x360", "duration_s": 3},
    }
    with Receiver([500, 200], secret=secret_of(service)) as receiver, browser.launched() as running:
        page = running.new_page()
        page.set_default_timeout(browser.PATIENCE)
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        browser.log_in(page, base, details["admin_user"], details["admin_password"])
        task_id = service.submit(
            **SEED_REQUEST | {"callback_url": receiver.url, "task_data": scene}
        )
        page.goto(f"{base}/")  # what a visitor sees first, and its icon
        page.goto(f"{base}/admin/tasks_app/task/{task_id}/change/")
        page.wait_for_selector(".mv-head .mv-badge:has-text('completed')")
        film = page.wait_for_selector("figure video")
        assert film is not None
        film.evaluate("film => { film.muted = true; film.play(); }")
        page.wait_for_function("film => film.currentTime > 0.3", arg=film)
        page.reload()  # the webhook is written with the result, maybe after the page was
        page.click("a:has-text('task.completed')")
        page.wait_for_selector(".mv-head .mv-badge:has-text('delivered')")
        codes = page.locator(".mv-attempt-head .mv-badge", has_text=re.compile(r"^\s*\d+\s*$"))
        expect(codes).to_have_text(["500", "200"])
        assert complaints == []
