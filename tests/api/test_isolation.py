"""Can a key see and change only its own project, on every route and with every method?

The routes come from the URL resolver (`tests.support.routes`).
"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tasks_app.models import ApiKey
from tests.support import factories
from tests.support.routes import ABSENT, OTHER, OWN, World, address, cases, client_of

pytestmark = pytest.mark.django_db


def ask(client: Client, method: str, path: str) -> Any:
    return client.generic(method.upper(), path, b"{}", content_type="application/json")


def without_names(answer: Any) -> dict[str, Any]:
    """Return a problem without the members that differ between requests."""
    return {k: v for k, v in answer.json().items() if k not in ("instance", "request_id")}


def test_there_are_routes() -> None:
    """The list of routes is not empty (otherwise these tests would prove nothing)."""
    assert ("api/v1/tasks/<str:task_id>", "delete") in cases()
    assert len(cases()) >= 10


@pytest.mark.parametrize(("route", "method"), cases())
def test_own_other_no_and_revoked_key(route: str, method: str) -> None:
    """An own key may call; another project's key finds nothing; all others are refused."""
    own = World(OWN)
    path, before = address(route, own.ids), own.state()
    revoked, clear = factories.make_api_key(project_id=OWN)
    ApiKey.objects.filter(pk=revoked.pk).update(revoked=True)
    _, expired = factories.make_api_key(project_id=OWN, expiry_date="2020-01-01T00:00:00Z")
    for client in (
        Client(),
        Client(headers={"x-api-key": clear}),
        Client(headers={"x-api-key": expired}),
        Client(headers={"x-api-key": "abcdefgh." + "x" * 32}),
    ):
        answer = ask(client, method, path)
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
    stranger = client_of(project_id=OTHER)
    foreign = ask(stranger, method, path)
    assert own.state() == before
    if method == "get":
        silent = stranger.head("/" + path.lstrip("/"))
        assert (silent.status_code, silent.content) == (foreign.status_code, b"")
    if "<" in route:
        absent = ask(stranger, method, address(route, ABSENT))
        assert (foreign.status_code, absent.status_code) == (404, 404), foreign.content
        assert without_names(foreign) == without_names(absent)
    else:
        body = b"".join(foreign) if foreign.streaming else foreign.content
        assert not [needle for needle in own.needles() if needle.encode() in body]
    answer = ask(client_of(project_id=OWN), method, path)
    assert answer.status_code not in (401, 403, 404), answer.content
    assert answer.status_code < 500, answer.content
    answer.close()


def test_a_key_without_project_sees_all(api: Client) -> None:
    """A key for all projects sees both projects' tasks; the filter selects one."""
    World(OWN), World(OTHER)
    projects = {task["project_id"] for task in api.get("/api/v1/tasks").json()["results"]}
    assert projects == {OWN, OTHER}
    found = api.get(f"/api/v1/tasks?project_id={OWN}").json()["results"]
    assert {task["project_id"] for task in found} == {OWN}


def test_a_cursor_opens_no_other_project() -> None:
    """A cursor is a place in a list, not a right: another key sees its own tasks from there."""
    World(OWN), World(OWN), World(OTHER)
    cursor = client_of(project_id=OWN).get("/api/v1/tasks?limit=1").json()["next_cursor"]
    found = client_of(project_id=OTHER).get(f"/api/v1/tasks?cursor={cursor}").json()
    assert {task["project_id"] for task in found["results"]} <= {OTHER}
    other = client_of(project_id=OTHER).get(f"/api/v1/tasks?project_id={OWN}").json()
    assert other["results"] == []


def test_submitting_to_another_project_is_403() -> None:
    """A submit for another project is refused with 403, which says whose key it is."""
    client = client_of(project_id=OTHER)
    request = {**factories.SEED_REQUEST, "project_id": OWN, "callback_url": "https://a.example.org"}
    request.pop("callback_url")
    request["task_data"] = {"prompt": "x"}
    answer = client.post("/api/v1/tasks/submit", request, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "other_project")
    assert answer.json()["detail"] == f"This key submits to its own project only, {OTHER}."


@pytest.mark.parametrize(
    ("scopes", "method", "path"),
    [
        (["submit", "admin"], "get", "tasks"),
        (["submit", "admin"], "get", "tasks/{task_id}"),
        (["read", "admin"], "post", "tasks/submit"),
        (["read", "admin"], "delete", "tasks/{task_id}"),
        (["read", "admin"], "post", "tasks/{task_id}/cancel"),
        (["read", "admin"], "post", "tasks/{task_id}/retry"),
        ([], "get", "tasks/metrics"),
        (["submit", "admin"], "get", "providers"),
    ],
)
def test_missing_scopes_are_403(scopes: list[str], method: str, path: str) -> None:
    """A key without a scope gets 403."""
    world = World(OWN)
    answer = ask(client_of(scopes=scopes), method, "/api/v1/" + path.format(**world.ids))
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
