"""Do equal requests with one Idempotency-Key make one task, and only equal ones?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from tasks_app.models import ApiKey, IdempotencyKey, Task
from tests.support.factories import SEED_REQUEST, make_api_key, make_credential, make_task

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks/submit"


def submit(api: Client, document: object, **headers: str) -> Any:
    return api.post(URL, document, "application/json", headers=headers)


def test_same_key_and_body_is_the_same_task(api: Client) -> None:
    """A repeat gets the first answer, marked as a repeat; the JSON's form does not matter."""
    first = submit(api, SEED_REQUEST, **{"Idempotency-Key": "k1"})
    shuffled = dict(reversed(SEED_REQUEST.items()))
    again = submit(api, shuffled, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    other = submit(api, {**SEED_REQUEST, "priority": 1}, **{"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert Task.objects.count() == 1


@pytest.mark.parametrize("change", ["credential", "provider", "key"])
def test_a_repeat_is_answered_whatever_has_changed_since(
    api: Client, settings: Any, change: str
) -> None:
    """What was taken stays taken, though the same request would be refused by now."""
    credential = make_credential(scope=SEED_REQUEST["project_id"])
    body = {**SEED_REQUEST, "callback_url": f"{credential.origins[0]}/x", "callback_auth": "door"}
    key = {"Idempotency-Key": "k1"}
    first = submit(api, body, traceparent=f"00-{'a' * 32}-{'b' * 16}-01", **key)
    assert first.status_code == 201, first.content
    if change == "credential":
        credential.delete()
    elif change == "provider":
        settings.GENERATION_PROVIDERS = {"video_generation": "openai"}
    else:
        ApiKey.objects.update(callback_hosts=["other.example.org"])
        api = Client(headers={"x-api-key": make_api_key(callback_hosts=["other.example.org"])[1]})
    again = submit(api, body, traceparent=f"00-{'c' * 32}-{'d' * 16}-01", **key)
    assert (again.status_code, again.json()) == (201, first.json()), again.content
    assert again["Idempotent-Replayed"] == "true"
    assert submit(api, body).status_code == 422
    assert submit(api, {**body, "priority": 1}, **key).status_code == 422
    stranger = Client(headers={"x-api-key": make_api_key(project_id="other")[1]})
    assert submit(stranger, body, **key).status_code in (403, 422)
    assert Task.objects.count() == 1


def test_a_retry_is_made_once_for_each_key(api: Client) -> None:
    """A repeated retry is the same new task, which is paid for once; another task's is not."""
    paths = [f"/api/v1/tasks/{make_task('failed').pk}/retry" for _ in range(2)]
    key = {"Idempotency-Key": "again"}
    first = api.post(paths[0], headers=key)
    again = api.post(paths[0], headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again["Idempotent-Replayed"] == "true"
    other = api.post(paths[1], headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert api.post(paths[0], headers={"Idempotency-Key": "\u00e9"}).status_code == 422
    assert Task.objects.count() == 3
    assert api.post(paths[0]).json()["task_id"] != first.json()["task_id"]


def test_idempotency_keys_belong_to_their_project(db: None) -> None:
    """The same key text in another project is another key, and shows nothing of the first."""
    ids = set()
    for project in ("mine", "yours"):
        api = Client(headers={"x-api-key": make_api_key(project_id=project)[1]})
        request = {**SEED_REQUEST, "project_id": project}
        answer = submit(api, request, **{"Idempotency-Key": "k1"})
        assert (answer.status_code, answer.json()["project_id"]) == (201, project)
        assert "Idempotent-Replayed" not in answer
        ids.add(answer.json()["task_id"])
    assert len(ids) == 2


@pytest.mark.parametrize(("hours", "age"), [(24, 25), (2, 3)])
def test_idempotency_keys_are_forgotten_after_their_hours(
    api: Client, settings: Any, hours: int, age: int
) -> None:
    """After IDEMPOTENCY_HOURS the key may be used again."""
    settings.IDEMPOTENCY_HOURS = hours
    first = submit(api, SEED_REQUEST, **{"Idempotency-Key": "k1"}).json()
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {IdempotencyKey._meta.db_table}"
            " SET created_at = now() - make_interval(hours => %s)",
            [age],
        )
    again = submit(api, SEED_REQUEST, **{"Idempotency-Key": "k1"})
    assert again.status_code == 201, again.content
    assert again.json()["task_id"] != first["task_id"]


def test_refused_requests_leave_the_key_free(api: Client) -> None:
    """A 422 is not stored: the corrected request may use the same key."""
    bad = submit(api, {**SEED_REQUEST, "priority": 9}, **{"Idempotency-Key": "k1"})
    good = submit(api, SEED_REQUEST, **{"Idempotency-Key": "k1"})
    assert (bad.status_code, good.status_code) == (422, 201)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in that many threads at once, each with its own connections."""

    def one(number: int) -> Any:
        try:
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.django_db(transaction=True)
def test_fifty_identical_submits_at_once_are_one_task() -> None:
    """Of 50 concurrent requests with one key, one makes the task and all get its id."""
    _, key = make_api_key()

    def once(number: int) -> Any:
        api = Client(headers={"x-api-key": key})
        return submit(api, SEED_REQUEST, **{"Idempotency-Key": "race"})

    answers = in_threads(50, once)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Task.objects.count() == 1
