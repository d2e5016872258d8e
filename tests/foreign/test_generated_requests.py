"""Does the real server match its OpenAPI document, whatever schemathesis sends it?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import factories
from tests.support.server import WebServer, no_renders

pytestmark = pytest.mark.long
HERE = Path(__file__).resolve().parent
LEAST_REQUESTS = 2_000


def known_ids() -> dict[str, list[str]]:
    """Make a few objects of each kind, and return their ids by the names of path parameters."""
    tasks = [factories.make_task(status) for status in ("queued", "failed", "completed") * 3]
    messages = []
    for task in tasks[1::3]:
        event = factories.make_event("task.failed", subject=str(task.pk))
        messages.append(factories.make_dead_letter(event=event, attempts=2))
    url = "https://receiver.example.org/"
    return {
        "task_id": [str(task.pk) for task in tasks],
        "project_id": [factories.PROJECT],
        "message_id": [str(message.pk) for message in messages],
        "endpoint_id": [str(factories.make_endpoint(f"{url}{n}").pk) for n in range(6)],
        "replay_id": [str(factories.make_replay(scope=factories.PROJECT).pk) for _ in range(3)],
    }


def schemathesis(server: WebServer, key: str, work_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run it against a server."""
    return subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "--config-file"),
            *(str(HERE / "schemathesis.toml"), "run", f"{server.url}/api/v1/schema"),
            *("--url", server.url, "--header", f"X-API-Key: {key}"),
            *("--workers", "2", "--no-color", "--report", "ndjson"),
            *("--report-ndjson-path", str(work_dir / "report.ndjson")),
        ],
        cwd=work_dir,
        env={
            **os.environ,
            "KNOWN_IDS": json.dumps(known_ids()),
            "PYTHONPATH": str(HERE.parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=900,
    )


def statuses(report: Path) -> list[int]:
    """Return the status of every answer in a report."""
    found: list[int] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            response = part.get("response")
            if isinstance(response, dict) and "status_code" in response:
                found.append(response["status_code"])
            for inner in part.values():
                walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)

    for line in report.read_text().splitlines():
        walk(json.loads(line))
    return found


def tracebacks(log: str) -> str:
    """Return a server's log from its first error on, to explain a 5xx."""
    return log[log.find(" ERROR ") :][:20_000] if " ERROR " in log else ""


@pytest.mark.django_db(transaction=True)
def test_two_thousand_generated_requests_find_no_fault(tmp_path: Path) -> None:
    """No 5xx, no answer that the document does not list, every error a problem."""
    key = factories.make_api_key(project_id=factories.PROJECT, rate_limit_per_minute=1_000_000)[1]
    with WebServer(processes=1, SSE_MAX_SECONDS="0.1", **no_renders()) as server:
        run = schemathesis(server, key, tmp_path)
        said = run.stdout[-8_000:] + run.stderr[-2_000:]
        assert run.returncode == 0, said + tracebacks(server.log())
    answered = statuses(tmp_path / "report.ndjson")
    assert len(answered) >= LEAST_REQUESTS, len(answered)
    assert max(answered) < 500
