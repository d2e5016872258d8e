"""Does a submit take what it should, refuse what it should, and say everything at once?"""

from __future__ import annotations

import pytest
from django.test import Client

from tasks_app.models import Task
from tests.factories import SEED_REQUEST

pytestmark = pytest.mark.django_db


def submit(api: Client, document: object, **headers: str):
    return api.post("/api/v1/tasks/submit", document, "application/json", headers=headers)


def test_seed_request_works_word_for_word(api: Client) -> None:
    """The request that the contract shows is accepted as it stands."""
    answer = submit(api, SEED_REQUEST)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["status"] == "queued"
    assert body["priority"] == "normal"
    assert set(body) == {
        "task_id",
        "project_id",
        "task_type",
        "status",
        "priority",
        "queue_position",
        "estimated_duration",
        "created_at",
    }
    assert Task.objects.get().callback_url == SEED_REQUEST["callback_url"]
    seen = api.get(f"/api/v1/tasks/{body['task_id']}/status").json()
    assert seen["metadata"] == SEED_REQUEST["metadata"]
