"""Which servers, which service? What a programme of steps holds in its hands."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import shutil
import socket
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import django

from tests import ROOT
from tests.support.comfyui import EXAMPLES, film, still, template, write
from tests.support.uploads import CONTENT_TYPE, form

T = TypeVar("T")

#: ``COMFYUI_VAR`` names another place, so that two runs can happen at once.
VAR = Path(os.environ.get("COMFYUI_VAR") or ROOT / "var" / "comfyui").resolve()
TYPES = ("image_generation", "video_generation")
#: For a task to end, and for a person to act.
TASK_SECONDS, PERSON_SECONDS = 300.0, 600.0
PROJECT = "test_project"


def templates(load: int) -> dict[str, Any]:
    """Return the templates of the steps; ``load`` stretches the long one."""
    video = {"task_type": "video_generation"}
    pace = {"from": "duration_s", "extra": 0}
    parameters = {
        "frames": ["1", "batch_size"],
        "fps": ["5", "fps"],
        "duration_s": ["4", "duration"],
        "width": ["1", "width"],
        "height": ["1", "height"],
    }
    size = {"width": ["1", "width"], "height": ["1", "height"]}
    return {
        "still": template(still(), "3", parameters={"seed": ["2", "seed"], **size}),
        "film": template(film(), "6", **video, parameters=parameters, converters={"frames": pace}),
        "restyle": json.loads((EXAMPLES / "restyle.json").read_text()),
        "wide": template(still(width=20_000), "3"),
        "long": template(long(load), "6", **video),
    }


def long(load: int) -> dict[str, Any]:
    """Return the graph of a film that takes a while, of many nodes between which one can stop."""
    graph = film()
    graph["1"]["inputs"] |= {"width": 640, "height": 360, "batch_size": 48}
    above = "2"
    for number in range(8 * load):
        node = f"blur{number}"
        inputs = {"image": [above, 0], "blur_radius": 31, "sigma": 5.0}
        graph[node] = {"class_type": "ImageBlur", "inputs": inputs}
        above = node
    graph["5"]["inputs"]["images"] = [above, 0]
    return graph


def networks(urls: list[str]) -> list[str]:
    """Return the addresses of servers that are not public, each as a network of ComfyUI's."""
    found: dict[str, bool] = {}
    for url in urls:
        host = urlsplit(url.partition("=")[2] if "=" in url.split("://")[0] else url).hostname
        for row in socket.getaddrinfo(host, None):
            address = ipaddress.ip_address(row[4][0])
            found[f"comfyui={address}/{address.max_prefixlen}"] = address.is_global
    return [] if all(found.values()) else list(found)


@contextmanager
def service() -> Iterator[Running]:
    """Run the service for the pool that COMFYUI_URLS names, with templates of its own."""
    shutil.rmtree(VAR, ignore_errors=True)
    VAR.mkdir(parents=True)
    entry = {"provider": "comfyui", "options": {"poll_seconds": 0.5}}
    environment = {
        "COMFYUI_WORKFLOWS": str(write(VAR / "workflows", **templates(_load()))),
        "COMFYUI_LOST_SECONDS": os.environ.get("COMFYUI_LOST_SECONDS", "10"),
        "GENERATION_PROVIDERS": json.dumps(dict.fromkeys(TYPES, entry)),
        "PROVIDER_ALLOW_NETWORKS": ",".join(networks(os.environ["COMFYUI_URLS"].split(","))),
    }
    # This process reads the same settings, to ask the servers itself.
    os.environ |= environment | {"EMBEDDED": "off", "DJANGO_SETTINGS_MODULE": "moviesvc.settings"}
    django.setup()
    from tests.e2e.conftest import Service
    from tests.support.receiver import Receiver

    running = Service(VAR / "service", **environment)
    running.is_set_up = False
    print("Starting the service ...", flush=True)
    running.start()
    try:
        with Receiver() as receiver:
            yield Running(running, receiver)
    finally:
        running.stop()


def _load() -> int:
    return int(os.environ.get("LOAD", "1"))


class Running:
    """The service, the receiver of its webhooks, and lines to the servers."""

    def __init__(self, service: Any, receiver: Any) -> None:
        from tasks_app.providers.comfyui import pool

        self.service, self.receiver = service, receiver
        self.servers = {each.label: each for each in pool.servers("comfyui")}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line, with the seconds since the start."""
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)

    def asset(self, content: bytes) -> str:
        """Upload a file; return the asset's id."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.service.port}/api/v1/assets",
            data=form(content, {"project_id": PROJECT}),
            headers={"X-API-Key": self.service.details["api_key"], "Content-Type": CONTENT_TYPE},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.loads(answer.read())["asset_id"])

    def submit(self, model: str, task_type: str = "image_generation", **task_data: Any) -> str:
        """Submit a task for a template; return its id."""
        body = {"model": model, "prompt": "a lighthouse", **task_data}
        return str(
            self.service.submit(
                project_id=PROJECT,
                task_type=task_type,
                task_data=body,
                callback_url=self.receiver.url,
            )
        )

    def ended(self, task_id: str, status: str = "completed") -> dict[str, Any]:
        """Wait for a task's end and for its webhook; return the task."""
        task = self.until(
            lambda: found if (found := self.task(task_id))["status"] in ENDED else None,
            f"the end of task {task_id}",
        )
        assert task["status"] == status, f"{task['status']}, {task.get('error')}"
        self.until(lambda: self.has_told(task_id, status), f"the webhook of task {task_id}")
        return task

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the API shows it."""
        found: dict[str, Any] = self.service.call("GET", f"tasks/{task_id}")[1]
        return found

    def has_told(self, task_id: str, status: str) -> bool:
        """Say whether the webhook of a task's end has come."""
        bodies = [json.loads(request.body) for request in list(self.receiver.requests)]
        return any(body["task_id"] == task_id and body["status"] == status for body in bodies)

    def until(self, predicate: Callable[[], T], what: str, seconds: float = TASK_SECONDS) -> T:
        """Wait until something is so."""
        from tests.support.waiting import wait_until

        return wait_until(predicate, seconds, what)

    def ask(self, label: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run some work over a line to a server."""
        from tasks_app.providers.remote.client import ProviderClient

        async def run() -> T:
            async with ProviderClient(self.servers[label]) as line:
                return await work(line)

        return asyncio.run(run())

    def queue(self, label: str) -> dict[str, Any] | None:
        """Return a server's queue, None while it is away."""
        from tasks_app.providers.base import ProviderError

        async def look(line: Any) -> dict[str, Any]:
            found: dict[str, Any] = (await line.call("GET", "queue", seconds=5.0)).json()
            return found

        try:
            return self.ask(label, look)
        except ProviderError:
            return None

    def running(self) -> str:
        """Return the label of a server that runs a job, "" if none does."""
        for label in self.servers:
            if (self.queue(label) or {}).get("queue_running"):
                return label
        return ""


ENDED = ("completed", "failed", "cancelled", "timed_out")
