"""Does the real server match its OpenAPI document, whatever it is sent?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tasks_app.api.openapi import hooks
from tasks_app.media import store
from tasks_app.models import MediaFile
from tasks_app.providers.base import Result
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
        timeout=280,
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


def examples_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Return every example of the document with its place and its schema."""
    described = [*document["paths"].values(), *document["webhooks"].values()]
    for operation in (one for methods in described for one in methods.values()):
        for part in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in part.get("content", {}).values():
                where = operation.get("operationId", "")
                found = [one["value"] for one in content.get("examples", {}).values()]
                found += [content["example"]] if "example" in content else []
                yield from ((where, content["schema"], value) for value in found)
    for name, response in document["components"]["responses"].items():
        content = response["content"]["application/problem+json"]
        if "example" in content:
            yield name, content["schema"], content["example"]


def test_every_example_is_what_its_schema_says() -> None:
    """Each request with a body, each webhook and the 422 have an example, and all are valid."""
    document = json.loads(hooks.schema_bytes())
    found = list(examples_of(document))
    for where, schema, value in found:
        whole = {**schema, "components": document["components"]}
        judge = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert [error.message for error in judge.iter_errors(value)] == [], where
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    with_body = {one["operationId"] for one in operations if "requestBody" in one}
    assert with_body | {"Invalid"} <= {where for where, _, _ in found}
    assert len(document["webhooks"]) == 6
    for described in document["webhooks"].values():
        assert described["post"]["requestBody"]["content"]["application/json"]["examples"]


def parts_of(part: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every object of the document, examples aside, with where it stands."""
    if isinstance(part, dict):
        yield at, part
        rest = {name: value for name, value in part.items() if name not in ("example", "examples")}
        for name, value in rest.items():
            yield from parts_of(value, f"{at}/{name}")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from parts_of(value, f"{at}/{number}")


def test_schemas_have_the_form_that_generators_understand() -> None:
    """Every enum has a name, no member has a default, and no two alternatives accept one text."""
    document = json.loads(hooks.schema_bytes())
    schemas = document["components"]["schemas"]
    for at, part in parts_of(document):
        is_component = re.fullmatch(r"/components/schemas/\w+", at) is not None
        if isinstance(part.get("enum"), list):
            assert is_component, at
            assert part["type"] in ("string", "integer"), at
        if at.startswith("/components") and not at.endswith("/properties"):
            assert "default" not in part, at
        assert {"type": "string", "maxLength": 0} not in part.get("oneOf", []), at
    assert schemas["Submit"]["discriminator"]["propertyName"] == "task_type"
    assert schemas["SubmitVideoGeneration"]["required"] == ["project_id", "task_data", "task_type"]


def test_errors_are_told_once() -> None:
    """Operations refer to the errors that they share; only a 409 may have words of its own."""
    document = json.loads(hooks.schema_bytes())
    used = set()
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        errors = {s: one for s, one in operation["responses"].items() if s >= "400"}
        assert {s for s, one in errors.items() if "$ref" not in one} <= {"409"}
        used |= {one["$ref"] for one in errors.values() if "$ref" in one}
    names = document["components"]["responses"]
    assert used == {f"#/components/responses/{name}" for name in names}


def test_webhooks_are_operations_of_their_own() -> None:
    """Each webhook has an id, a tag of its own and a named body, and needs no key."""
    document = json.loads(hooks.schema_bytes())
    calls = [one for methods in document["paths"].values() for one in methods.values()]
    webhooks = [one["post"] for one in document["webhooks"].values()]
    ids = [one["operationId"] for one in calls + webhooks]
    assert len(set(ids)) == len(ids)
    assert {tag for one in calls for tag in one["tags"]}.isdisjoint({"receiver"})
    for one in webhooks:
        assert (one["tags"], one["security"]) == (["receiver"], [])
        assert one["requestBody"]["content"]["application/json"]["schema"]["$ref"]


def test_answers_have_all_members_that_they_show() -> None:
    """A member that every answer has is listed as required."""
    schemas = json.loads(hooks.schema_bytes())["components"]["schemas"]
    for name in ("Delivery", "Message", "MessageDetail", "Replay", "Endpoint", "Event", "Secret"):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"]), name


def test_a_result_shows_every_member() -> None:
    """The schema of a task's files matches `describe`, including what may be absent."""
    schemas = json.loads(hooks.schema_bytes())["components"]["schemas"]
    facts = {"size_bytes": 1, "width": 1, "height": 1, "duration": 1.0, "fps": 1.0}
    file = MediaFile(role="primary", link_token="a", **facts)
    told = store.describe(Result(files=(), provider="p", model="m"), [file])
    assert set(told) == set(schemas["Result"]["properties"])
    assert set(told["files"][0]) == set(schemas["ResultFile"]["properties"])
    file.width = file.height = file.duration = file.fps = None
    less = store.describe(Result(files=(), provider="p", model="m"), [file])
    assert set(less) == set(schemas["Result"]["required"])
    assert set(less["files"][0]) == set(schemas["ResultFile"]["required"])
