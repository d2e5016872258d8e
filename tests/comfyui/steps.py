"""What is asked of a pool of ComfyUI servers, one step after the other?"""

from __future__ import annotations

from collections.abc import Callable

from tests.comfyui.pool import PERSON_SECONDS, Running
from tests.support.uploads import png


def check(running: Running) -> None:
    """`manage.py check` asks each server, and finds the one workflow that is wrong."""
    done = running.service.command("check", "--tag", "comfyui")
    wrong = [line for line in done.stderr.splitlines() if "(comfyui." in line]
    for label in running.servers:
        mine = [line for line in wrong if f" on {label}:" in line]
        assert len(mine) == 1, f"{label}: {mine or done.stderr}"
        assert "wide" in mine[0], mine[0]


def stills(running: Running) -> None:
    """A picture, twice with the same seed: two files, though ComfyUI caches its work."""
    size = {"image_params": {"resolution": "256x256"}}
    tasks = [running.submit("still", seed=7, **size) for _ in range(2)]
    results = [running.ended(each)["result"] for each in tasks]
    for result in results:
        assert (result["media_type"], result["width"]) == ("image/png", 256), result
        told = result["provider_metadata"]
        assert told["server"] in running.servers, told
        assert len(told["workflow_sha256"]) == 64, told
    assert results[0]["payload_media_id"] != results[1]["payload_media_id"]


def upload(running: Running) -> None:
    """Pictures made of an uploaded one, as many as there are servers."""
    asset = running.asset(png(5, side=96))
    tasks = [running.submit("restyle", inputs={"image": {"asset": asset}}) for _ in running.servers]
    for task_id in tasks:
        result = running.ended(task_id)["result"]
        assert (result["media_type"], result["width"]) == ("image/png", 512), result
        assert [row["asset_id"] for row in result["inputs"]] == [asset], result


def film(running: Running) -> None:
    """A film of two seconds, with sound."""
    params = {"resolution": "256x144", "duration_s": 2, "fps": 24}
    task = running.submit("film", "video_generation", video_params=params)
    result = running.ended(task)["result"]
    assert result["media_type"] == "video/mp4", result
    assert abs(result["duration"] - 2) < 0.1, result
    assert result["codecs"][0] == "h264", result
    assert len(result["codecs"]) == 2, result


def refusal(running: Running) -> None:
    """A workflow that the server refuses fails at once, and tells the client nothing of it."""
    task = running.ended(running.submit("wide"), "failed")
    assert task["error_code"] == "provider_rejected", task
    assert "EmptyImage" not in str(task), task


def cancel(running: Running) -> None:
    """A cancelled task is interrupted on its server."""
    task_id = running.submit("long", "video_generation")
    label = running.until(running.running, "a server that runs the task")
    status, answer = running.service.call("POST", f"tasks/{task_id}/cancel")
    assert status < 300, answer
    running.until(
        lambda: (queue := running.queue(label)) and not queue["queue_running"],
        f"{label} ends the cancelled job",
    )


def kill(running: Running) -> None:
    """A server is killed in the middle, and started again; its task is made all the same."""
    task_id, label = _begin_long(running)
    _let_die(running, label)
    if len(running.servers) > 1:
        running.say(f"      waiting for another server to make it; {label} can stay away")
    else:
        running.say(f"      START {label} AGAIN now")
        running.until(lambda: running.queue(label), f"{label} answers", PERSON_SECONDS)
    task = running.ended(task_id)
    maker = task["result"]["provider_metadata"]["server"]
    running.say(f"      made by {maker}")
    assert len(running.servers) == 1 or maker != label, "the dead server made it?"
    if len(running.servers) > 1:
        running.say(f"      START {label} AGAIN now")
        running.until(lambda: running.queue(label), f"{label} answers", PERSON_SECONDS)


def _begin_long(running: Running) -> tuple[str, str]:
    task_id = running.submit("long", "video_generation")
    return task_id, running.until(running.running, "a server that runs the task")


def _let_die(running: Running, label: str) -> None:
    running.say(f"      KILL {label} now (kill -9, or Ctrl-C)")
    running.until(lambda: running.queue(label) is None, f"{label} is away", PERSON_SECONDS)
    running.say(f"      {label} is away")


STEPS: dict[str, Callable[[Running], None]] = {
    "check": check,
    "still": stills,
    "upload": upload,
    "film": film,
    "refusal": refusal,
    "cancel": cancel,
    "kill": kill,
}
