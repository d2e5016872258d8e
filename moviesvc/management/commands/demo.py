"""Does the whole service work on this machine? Three real tasks, three verified webhooks.

Uses a running service, or runs one itself. Acts like any client: over HTTP, with its own receiver
on loopback and the independent `standardwebhooks` verifier.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from standardwebhooks import Webhook, WebhookVerificationError

from moviesvc.run.service import MANAGE, RunFile
from moviesvc.run.supervisor import die_with
from webhooks_app.operators.command import OperatorCommand, number

PROJECT = "demo"
START_TIMEOUT_SECONDS = 120.0
TASKS: dict[str, dict[str, Any]] = {
    "video_generation": {
        "scene_data": {"prompt": "A woman walks through a neon alley at night, in the rain"},
        "video_params": {"resolution": "1280x720", "duration_s": 4},
    },
    "image_generation": {"image_data": {"prompt": "Two hikers in snowy mountains at sunrise"}},
    "audio_generation": {
        "audio_data": {"kind": "voice", "text": "The light must never go out. Not tonight."}
    },
}


class Command(OperatorCommand):
    help = (
        "Submit one task of each type, receive and verify the three webhooks, show the files. "
        "Uses the service of this checkout that runs already, else runs one until it is done."
    )
    examples = (("", "does everything work on this machine?"), ("--timeout 900", "a slow one"))
    exit_codes = {
        0: "three tasks completed, three webhooks arrived and verified",
        1: "something did not; it says what",
        130: "Ctrl-C",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--timeout", type=number(0.01, 86_400), default=300.0, help="seconds for the tasks"
        )

    def handle(self, *args: Any, timeout: float, **options: Any) -> None:
        console = Console(soft_wrap=True, highlight=False)
        with _service(console) as running, _receiver() as inbox:
            demo = Demo(running["url"], running["api_key"], inbox, console)
            if problems := demo.run(timeout):
                raise CommandError("the demo failed:\n  " + "\n  ".join(problems))
            console.print("\n[bold green]All three webhooks arrived, signed and verified.")


@dataclass
class Inbox:
    """What the receiver got: headers and bodies of the requests, in order of arrival."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def find(self, task_id: str) -> tuple[dict[str, str], bytes] | None:
        for headers, body in list(self.requests):
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                if json.loads(body).get("task_id") == task_id:
                    return headers, body
        return None


class Demo:
    """Three tasks from submit to verified webhook, as a client sees them."""

    def __init__(self, url: str, key: str, inbox: Inbox, console: Console) -> None:
        self.base = f"{url}/api/v1"
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}
        self.inbox = inbox
        self.console = console

    def call(self, path: str, body: Any = None) -> Any:
        """GET, or POST if there is a body.

        Raises: CommandError with the service's answer.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data, self._headers)  # noqa: S310 - our own service
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                return json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise CommandError(f"{path} was answered with {error.code}: {text}") from None
        except OSError as error:
            raise CommandError(f"{self.base}/{path} cannot be reached: {error}") from None

    def run(self, timeout: float) -> list[str]:
        """Return what went wrong; nothing when all is well."""
        secret = self.call(f"webhooks/signing-secret?project_id={PROJECT}")["secret"]
        tasks = {name: self._submit(name, data) for name, data in TASKS.items()}
        self._wait(tasks, time.monotonic() + timeout)
        problems = [self._show(name, task_id, secret) for name, task_id in tasks.items()]
        return [problem for problem in problems if problem]

    def _submit(self, name: str, task_data: dict[str, Any]) -> str:
        body = {"project_id": PROJECT, "task_type": name, "task_data": task_data}
        body |= {"callback_url": self.inbox.url, "metadata": {"demo": name}}
        task_id = str(self.call("tasks/submit", body)["task_id"])
        self.console.print(f"submitted  {name:<17} {task_id}")
        return task_id

    def _wait(self, tasks: dict[str, str], deadline: float) -> None:
        with self.console.status("") as status:
            while time.monotonic() < deadline:
                waiting = [name for name, task in tasks.items() if not self.inbox.find(task)]
                if not waiting:
                    return
                status.update("; ".join(self._progress(name, tasks[name]) for name in waiting))
                time.sleep(0.5)

    def _progress(self, name: str, task_id: str) -> str:
        task = self.call(f"tasks/{task_id}")
        return f"{name} {task['status']} {task.get('progress') or 0:.0%}"

    def _show(self, name: str, task_id: str, secret: str) -> str:
        found = self.inbox.find(task_id)
        if found is None:
            state = self._progress(name, task_id)
            return f"{name}: no webhook within the time ({state}, task {task_id})"
        headers, body = found
        try:
            payload = Webhook(secret).verify(body, headers)
        except WebhookVerificationError as error:
            return f"{name}: the signature of its webhook is wrong ({error})"
        if payload["status"] != "completed":
            return f"{name}: {payload['status']}: {payload.get('error')}"
        self.console.print(
            f"\n[bold]{name}[/] completed in {payload['processing_time']} s,"
            f" webhook {headers['webhook-id']} verified"
        )
        url = payload["result"]["media_url"]
        try:
            with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - our own service
                size = len(response.read())
        except OSError:
            return f"{name}: its file cannot be downloaded from {url}"
        self.console.print(f"  {url}  ({size:,} bytes)")
        folder = Path(settings.MEDIA_ROOT) / "results" / task_id
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.console.print(f"  {file}")
        return ""


@contextlib.contextmanager
def _receiver() -> Iterator[Inbox]:
    """Receive on loopback; answers 204 to everything."""
    inbox = Inbox()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            inbox.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing: the demo reports what arrived."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        inbox.url = f"http://127.0.0.1:{server.server_port}/webhooks"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield inbox
        server.shutdown()


@contextlib.contextmanager
def _service(console: Console) -> Iterator[dict[str, Any]]:
    """Use a running service, or run one until the demo is over."""
    var = Path(settings.VAR_DIR).resolve()
    running = RunFile(var).read()
    if running:
        console.print(f"using the service that runs at {running['url']}")
        yield _with_key(running)
        return
    console.print("starting the service (a running `make run` would have been used)")
    log = var / "demo.log"
    process = _start(log)
    try:
        yield _with_key(_wait_for_start(process, RunFile(var), log))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        console.print(
            "The service of the demo has stopped. The files stay;"
            " under `make run` their links work again, at its address."
        )


def _with_key(running: dict[str, Any]) -> dict[str, Any]:
    if not running["api_key"]:
        raise CommandError("the demo needs a service in development mode (ENVIRONMENT=development)")
    return running


def _start(log: Path) -> subprocess.Popen[bytes]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "PUBLIC_URL"}
    parent = os.getpid()
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, MANAGE, "run"],
            env=environment | {"PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only the demo, which then stops the service
            preexec_fn=lambda: die_with(parent),
        )


def _wait_for_start(process: subprocess.Popen[bytes], run_file: RunFile, log: Path) -> Any:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        running = run_file.read()
        if running:
            return running
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-3000:]
    raise CommandError(f"the service did not start; {log} ends with:\n{tail}")
