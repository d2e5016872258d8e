"""Does every route, and not only the submit, refuse hostile requests in the same way?

The routes come from the URL resolver, their bodies and parameters from the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from django.test import Client

from tasks_app.api.openapi import hooks
from tests.api.test_hostile_input import MALFORMED, problem_of
from tests.support.routes import ABSENT, METHODS, OTHER, OWN, World, address, client_of, routes

pytestmark = pytest.mark.django_db

#: Whole documents that are hostile wherever they are sent; the others need a submit around them.
DOCUMENTS = {name: body for name, body in MALFORMED.items() if body and b"metadata" not in body} | {
    "NUL in a value": b'{"a": "\\u0000"}',
    "NUL in a key": b'{"\\u0000": 1}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "NaN": b'{"a": NaN}',
    "1e400": b'{"a": 1e400}',
    "an integer of 4,299 digits": b'{"a": ' + b"9" * 4299 + b"}",
}
#: What stands in a query where a value belongs.
VALUES = ["%00", "a%00b", "%ED%A0%80", "1e400", "9" * 400, "-1", "%F0%9F%98%80", "a" * 5000, "[]"]
HOSTILE_IDS = ["%00", "..%2f..", "0", "%F0%9F%98%80", "9" * 300, "-1", "a" * 3000]


@cache
def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation of the document by route and method."""
    document = json.loads(hooks.schema_bytes())
    return {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def with_body() -> list[tuple[str, str]]:
    return [case for case, operation in operations().items() if "requestBody" in operation]


def with_query() -> list[tuple[str, str]]:
    """Every path with each parameter of its query."""
    return [
        (path, parameter["name"])
        for (path, method), operation in operations().items()
        for parameter in operation.get("parameters", [])
        if method == "get" and parameter["in"] == "query"
    ]


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: ids[match[1]], path)


def test_the_document_has_the_routes_of_the_resolver() -> None:
    """The tested list of routes is complete."""
    # The last one is called by providers, who have documents of their own.
    beside = {"/api/v1/schema", "/api/v1/docs", "/api/v1/providers/{name}/callback/{token}"}
    walked = {"/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route) for route, _ in routes()}
    assert walked - beside == {path for path, _ in operations() if path.startswith("/api/v1/")}
    assert len(with_body()) >= 7
    assert len(with_query()) >= 30


@pytest.mark.parametrize(("path", "method"), with_body())
def test_hostile_bodies_are_refused_everywhere(api: Client, path: str, method: str) -> None:
    """Not JSON, another media type, a compressed body, one too large: 400, 415, 415, 413."""
    target = filled(path, World(OWN).ids)

    def send(body: bytes, content_type: str = "application/json", **headers: str) -> Any:
        return api.generic(method.upper(), target, body, content_type=content_type, headers=headers)

    for name, body in DOCUMENTS.items():
        answer = send(body)
        assert answer.status_code == 400, (name, answer.content)
        assert problem_of(answer)["code"] == "malformed_json"
    form = problem_of(send(b"a=1", "application/x-www-form-urlencoded"))
    assert form["status"] == 415
    assert 'Send JSON, with "Content-Type: application/json".' in form["detail"]
    assert problem_of(send(b"{}", "application/json; charset=utf-16"))["status"] == 415
    assert problem_of(send(b"{}", **{"Content-Encoding": "gzip"}))["status"] == 415
    assert problem_of(send(b" " * 3_000_000))["status"] == 413
    unknown = problem_of(send(b'{"nonsense": 1}'))
    assert (unknown["status"], "/nonsense") in [(422, e["pointer"]) for e in unknown["errors"]]


@pytest.mark.parametrize("path", [path for path, _ in with_body() if "{" not in path])
def test_a_valid_body_of_a_stranger_changes_nothing(path: str) -> None:
    """A key of another project sends the documented examples with this project's names."""
    own = World(OWN)
    before = own.state()
    content = operations()[path, "post"]["requestBody"]["content"]["application/json"]
    example = content.get("example") or next(iter(content["examples"].values()))["value"]
    ours = {"project_id": OWN, "ids": [own.ids["event_id"]]}
    for extra in ({}, {name: ours[name] for name in ours if name in example}, {"project_id": OWN}):
        answer = client_of(project_id=OTHER).post(path, {**example, **extra}, "application/json")
        assert answer.status_code < 500, answer.content
        assert own.state() == before, (extra, answer.content)


@pytest.mark.parametrize(("path", "name"), with_query())
def test_hostile_values_of_every_parameter_are_refused(api: Client, path: str, name: str) -> None:
    """NUL and half a surrogate pair are 422 and blamed on the parameter; nothing is a 5xx."""
    target = filled(path, World(OWN).ids)
    for value in VALUES:
        answer = api.get(f"{target}?{name}={value}")
        assert answer.status_code in (200, 404, 422), (value, answer.content)
        if answer.status_code == 422:
            assert name in [error.get("parameter") for error in problem_of(answer)["errors"]]
    assert api.get(f"{target}?{name}=%00").status_code == 422
    assert api.get(f"{target}?{name}=a&{name}=b").status_code == 422


@pytest.mark.parametrize("path", sorted({path for path, _ in with_query()}))
def test_unknown_parameters_are_refused_everywhere(api: Client, path: str) -> None:
    """A misspelt filter is an error and not ignored."""
    answer = api.get(filled(path, World(OWN).ids) + "?nonsense=1")
    assert answer.status_code == 422, answer.content
    assert problem_of(answer)["errors"][0]["parameter"] == "nonsense"


# The id of a project is a word that anybody may choose: there is a project "0", with no tasks.
@pytest.mark.parametrize("route", [r for r, _ in routes() if "<" in r and "project_id" not in r])
def test_hostile_ids_are_absent_everywhere(api: Client, route: str) -> None:
    """An invalid id in a path gets the same answer as an absent one."""
    view = dict(routes())[route]
    for method in (method for method in METHODS if hasattr(view.cls, method)):
        for value in HOSTILE_IDS:
            target = address(route, dict.fromkeys(ABSENT, value))
            answer = api.generic(method.upper(), target, b"{}", content_type="application/json")
            if "callback" in route:  # which tells nobody whether a job exists
                assert answer.status_code in (204, 404), (value, answer.content)
            else:
                assert problem_of(answer)["status"] == 404, (method, value, answer.content)


@pytest.mark.parametrize("route", [route for route, _ in routes()])
def test_other_methods_are_405_everywhere(api: Client, route: str) -> None:
    """The answer is a problem, and its Allow header lists the methods."""
    view = dict(routes())[route]
    known = {m for m in METHODS if hasattr(view.cls, m)} if hasattr(view, "cls") else {"get"}
    target = address(route, World(OWN).ids)
    for method in {*METHODS, "options", "trace"} - known:
        answer = api.generic(method.upper(), target, b"{}", content_type="application/json")
        assert problem_of(answer)["status"] == 405, (method, answer.content)
        assert {name.lower() for name in answer["Allow"].split(", ")} >= known
