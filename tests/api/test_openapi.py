"""Is the OpenAPI document what clients and their tools need?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from tasks_app.api.openapi import hooks
from tasks_app.media import store
from tasks_app.models import MediaFile
from tasks_app.providers.base import Result


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
    assert len(document["webhooks"]) == 10
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
    beside = {"inputs", "fallback_from", "traceparent"}  # of tasks that have any
    assert set(told) | beside == set(schemas["Result"]["properties"])
    assert set(told["files"][0]) == set(schemas["ResultFile"]["properties"])
    file.width = file.height = file.duration = file.fps = None
    less = store.describe(Result(files=(), provider="p", model="m"), [file])
    assert set(less) == set(schemas["Result"]["required"])
    assert set(less["files"][0]) == set(schemas["ResultFile"]["required"])
