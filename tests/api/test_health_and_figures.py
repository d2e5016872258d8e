"""Do health, figures, schema and pages say the right things, to the right callers?"""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from tasks_app.models import ApiKey
from tests.support import factories
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db


def test_live_asks_nobody(django_assert_num_queries: Any) -> None:
    """The process answers without key, database or Redis."""
    with django_assert_num_queries(0):
        assert Client().get("/api/v1/health").json() == {"status": "ok"}


def test_figures_are_those_of_the_keys_project() -> None:
    """Counts, success rate and durations by type, without those of other projects."""
    now = timezone.now()
    for seconds in (10, 20, 30):
        started_at = now - timedelta(seconds=seconds)
        factories.make_task("completed", project_id="p", started_at=started_at, finished_at=now)
    factories.make_task("failed", project_id="p")
    factories.make_task("queued", project_id="p", task_type="image_generation")
    factories.make_task("failed", project_id="elsewhere")
    _, key = factories.make_api_key(project_id="p")
    body = Client(headers={"x-api-key": key}).get("/api/v1/tasks/metrics").json()
    assert body["counts"]["completed"] == 3
    assert body["success_rate"] == 0.75
    video = body["by_type"]["video_generation"]
    assert video["duration_seconds"] == {"measured": 3, "mean": 20.0, "p50": 20.0, "p95": 29.0}
    assert body["by_type"]["image_generation"]["counts"]["queued"] == 1
    assert body["by_type"]["audio_generation"]["success_rate"] is None


def test_the_schema_names_requests_answers_webhooks_and_errors() -> None:
    """OpenAPI 3.1 with the task_data of each type, the problem, and the webhooks' bodies."""
    document = json.loads(Client().get("/api/v1/schema").content)
    assert document["openapi"].startswith("3.1")
    assert {"task.completed", "task.failed", "task.cancelled"} <= set(document["webhooks"])
    components = document["components"]["schemas"]
    assert components["VideoParamsFps"]["enum"] == [12, 24, 25, 30]
    assert components["VideoParams"]["additionalProperties"] is False
    submit = document["paths"]["/api/v1/tasks/submit"]["post"]
    assert submit["responses"]["422"] == {"$ref": "#/components/responses/Invalid"}
    assert document["components"]["responses"]["Invalid"]["content"]["application/problem+json"]
    assert submit["requestBody"]["content"]["application/json"]["examples"]
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"


def test_the_schema_can_be_read_from_the_top() -> None:
    """Submitting comes first, and every operation has a summary."""
    document = json.loads(Client().get("/api/v1/schema").content)
    tags = [tag["name"] for tag in document["tags"]]
    assert tags == ["tasks", "assets", "webhooks", "receiver", "service"]
    assert next(iter(document["paths"])) == "/api/v1/tasks/submit"
    calls = [call for methods in document["paths"].values() for call in methods.values()]
    assert [call["operationId"] for call in calls if not call.get("summary")] == []
    assert {call["tags"][0] for call in calls} == {"tasks", "assets", "webhooks", "service"}


def test_the_docs_page_loads_nothing_from_elsewhere() -> None:
    """The page, its script and every file it names come from this service."""
    page = Client().get("/api/v1/docs")
    text = page.content.decode()
    assert page.status_code == 200
    assert "http://" not in text
    assert "https://" not in text
    assert "script-src 'self';" in page["Content-Security-Policy"]
    script = Client().get("/api/v1/docs?script=").content.decode()
    assert "/api/v1/schema" in script
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/static/drf_spectacular_sidecar/swagger-ui-dist/{name}" in text
        path = f"/static/drf_spectacular_sidecar/swagger-ui-dist/{name}"
        file = Client().get(path)
        assert file.status_code == 200
        file.close()


def test_home_says_what_this_is() -> None:
    """The page at ``/`` links to the docs."""
    page = Client().get("/").content.decode()
    assert "AI Movie Task Service" in page
    assert "/api/v1/docs" in page


def run(*arguments: str) -> str:
    """What the command printed."""
    out = StringIO()
    call_command("create_api_key", *arguments, stdout=out)
    return out.getvalue().strip()


def test_the_command_makes_lists_and_revokes_keys() -> None:
    """The printed key works until the command revokes it."""
    clear = run("My app", "--project", "p", "--scopes", "read", "--rate-limit", "50")
    key = ApiKey.objects.get(prefix=clear[:8])
    assert (key.project_id, key.scopes, key.rate_limit_per_minute) == ("p", ["read"], 50)
    client = Client(headers={"x-api-key": clear})
    assert client.get("/api/v1/tasks").status_code == 200
    assert "active" in run("--list")
    run("--revoke", clear[:8], "--reason", "it leaked")
    wait_until(lambda: client.get("/api/v1/tasks").status_code == 401)
    assert "revoked" in run("--list")
    assert clear.partition(".")[2] not in run("--list")


@pytest.mark.parametrize(
    "arguments",
    [[], ["x", "--scopes", "write"], ["x", "--project", "a b"], ["--revoke", "nonesuch"]],
)
def test_the_command_refuses_nonsense(arguments: list[str]) -> None:
    """Wrong usage makes no key."""
    with pytest.raises(CommandError):
        run(*arguments)
    assert not ApiKey.objects.exists()


def test_a_slash_too_much_is_answered_with_the_right_address(api: Client) -> None:
    """A URL with a slash at the end is a 404 that names the right one."""
    answer = api.get("/api/v1/docs/")
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("Leave out the slash at the end: /api/v1/docs")
    assert api.get("/api/v1/dogs/").json()["detail"] == "There is nothing here."
