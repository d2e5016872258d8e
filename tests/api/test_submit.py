"""Does a submit accept and refuse the right things, with all errors at once?"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from django.test import Client

from tasks_app import redis_gate
from tasks_app.models import Task
from tasks_app.task_types import TASK_TYPES
from tests.support.factories import SEED_REQUEST, make_api_key

pytestmark = pytest.mark.django_db
URL = "/api/v1/tasks/submit"
IMAGE: dict[str, Any] = {
    "project_id": "p",
    "task_type": "image_generation",
    "task_data": {"prompt": "a lamp"},
}
AUDIO: dict[str, Any] = {
    "project_id": "p",
    "task_type": "audio_generation",
    "task_data": {"audio_data": {"text": "Good evening."}},
}


def submit(api: Client, document: object, **headers: str) -> Any:
    return api.post(URL, document, "application/json", headers=headers)


def changed(base: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return the base request with one value set, with sections added as needed."""
    document = copy.deepcopy(base)
    *sections, last = path.split("/")
    place = document
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return document


def test_seed_request_works_word_for_word(api: Client) -> None:
    """The contract's example request is accepted unchanged."""
    answer = submit(api, SEED_REQUEST)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert list(body) == [
        "task_id",
        "project_id",
        "task_type",
        "status",
        "priority",
        "queue_position",
        "estimated_duration",
        "created_at",
    ]
    assert (body["status"], body["priority"], body["queue_position"]) == ("queued", "normal", 1)
    assert body["created_at"].endswith("Z")
    assert Task.objects.get().callback_url == SEED_REQUEST["callback_url"]
    seen = api.get(f"/api/v1/tasks/{body['task_id']}/status").json()
    assert seen["metadata"] == SEED_REQUEST["metadata"]


def test_metadata_comes_back_untouched(api: Client) -> None:
    """Order of keys, form of numbers and spelling of strings are kept as the client sent them."""
    metadata = '{"z": 1.0, "a": 1e2, "n": -0, "s": "\\u00e9\\/", "o": { "b":[ ],"a":null } }'
    body = json.dumps({**SEED_REQUEST, "metadata": 0}).replace('"metadata": 0', "")
    answer = api.generic("POST", URL, f'{body[:-1]}"metadata":{metadata}}}', "application/json")
    assert answer.status_code == 201, answer.content
    text = api.get(f"/api/v1/tasks/{answer.json()['task_id']}").content.decode()
    assert f'"metadata":{metadata}' in text
    assert f'"metadata":{metadata}' in api.get("/api/v1/tasks").content.decode()


def test_what_the_client_said_is_stored_without_defaults(api: Client) -> None:
    """Only what was said is stored, normalised and in its place: defaults are the provider's."""
    submit(api, changed(SEED_REQUEST, "task_data", {"prompt": " Café \r\n rain "}))
    assert Task.objects.get().task_data == {"scene_data": {"prompt": "Café \n rain"}}
    submit(api, changed(IMAGE, "task_data/image_data/purpose", "character_design"))
    submit(api, AUDIO)
    image, audio = (
        Task.objects.get(task_type=name).task_data
        for name in ("image_generation", "audio_generation")
    )
    assert image == {"image_data": {"prompt": "a lamp", "purpose": "character_design"}}
    assert audio == AUDIO["task_data"]


BAD: list[tuple[dict[str, Any], str, object, str]] = [
    (SEED_REQUEST, "project_id", "a b", "bad_format"),
    (SEED_REQUEST, "project_id", "", "required"),
    (SEED_REQUEST, "project_id", "a" * 101, "bad_format"),
    (SEED_REQUEST, "project_id", 1, "bad_type"),
    (SEED_REQUEST, "project_id", None, "bad_type"),
    (SEED_REQUEST, "task_type", "video", "not_allowed"),
    (SEED_REQUEST, "task_type", ["video_generation"], "bad_type"),
    (SEED_REQUEST, "task_data", [], "bad_type"),
    (SEED_REQUEST, "task_data", None, "bad_type"),
    (SEED_REQUEST, "metadata", "x", "bad_type"),
    (SEED_REQUEST, "metadata", {"a": "x" * 16_384}, "too_long"),
    (SEED_REQUEST, "priority", "urgent", "not_allowed"),
    (SEED_REQUEST, "priority", 4, "not_allowed"),
    (SEED_REQUEST, "priority", True, "bad_type"),
    (SEED_REQUEST, "timeout_seconds", 0, "out_of_range"),
    (SEED_REQUEST, "timeout_seconds", 7201, "out_of_range"),
    (SEED_REQUEST, "timeout_seconds", 2**40, "out_of_range"),
    (SEED_REQUEST, "timeout_seconds", 1.5, "bad_type"),
    (IMAGE, "timeout_seconds", 3601, "out_of_range"),
    (SEED_REQUEST, "webhook_events", "task.completed", "bad_type"),
    (SEED_REQUEST, "retry_policy", "hourly", "not_allowed"),
    (SEED_REQUEST, "retry_policy", "", "not_allowed"),
    (SEED_REQUEST, "retry_policy", [-1], "out_of_range"),
    (SEED_REQUEST, "retry_policy", [86_401], "out_of_range"),
    (SEED_REQUEST, "retry_policy", [1] * 21, "out_of_range"),
    (SEED_REQUEST, "retry_policy", [True], "out_of_range"),
    (SEED_REQUEST, "retry_policy", ["1"], "out_of_range"),
    (SEED_REQUEST, "retry_policy", {}, "bad_type"),
    (SEED_REQUEST, "callback_url", "ftp://example.org/", "invalid_url"),
    (SEED_REQUEST, "callback_url", "https://10.0.0.1/", "blocked_address"),
    (SEED_REQUEST, "callback_url", "https://a@example.org/", "invalid_url"),
    (SEED_REQUEST, "callback_url", " https://example.org/", "invalid_url"),
    (SEED_REQUEST, "callback_url", "", "invalid_url"),
    (SEED_REQUEST, "callback_url", None, "bad_type"),
    (SEED_REQUEST, "task_data/scene_data/prompt", "", "required"),
    (SEED_REQUEST, "task_data/scene_data/prompt", " \n", "required"),
    (SEED_REQUEST, "task_data/scene_data/prompt", "a\x07", "bad_format"),
    (SEED_REQUEST, "task_data/scene_data/prompt", "a" * 4001, "too_long"),
    (SEED_REQUEST, "task_data/scene_data/prompt", 5, "bad_type"),
    (SEED_REQUEST, "task_data/scene_data/negative_prompt", "a" * 2001, "too_long"),
    (SEED_REQUEST, "task_data/scene_data/scene", "SC 1", "bad_format"),
    (SEED_REQUEST, "task_data/scene_data/dialogue", [{}] * 11, "too_long"),
    (SEED_REQUEST, "task_data/prompt", "again", "not_allowed"),
    (SEED_REQUEST, "task_data/seed", -1, "out_of_range"),
    (SEED_REQUEST, "task_data/seed", 2**32, "out_of_range"),
    (SEED_REQUEST, "task_data/options", {"a": "x" * 8192}, "too_long"),
    (SEED_REQUEST, "task_data/provider", "other", "not_allowed"),
    (SEED_REQUEST, "task_data/video_params/resolution", "1080p", "bad_format"),
    (SEED_REQUEST, "task_data/video_params/resolution", "1921x1080", "bad_format"),
    (SEED_REQUEST, "task_data/video_params/resolution", "3842x2160", "out_of_range"),
    (
        SEED_REQUEST,
        "task_data/video_params/resolution",
        "\u0661\u0662\u0668\u0660x720",
        "bad_format",
    ),
    (SEED_REQUEST, "task_data/video_params/duration_s", 0.5, "out_of_range"),
    (SEED_REQUEST, "task_data/video_params/duration_s", True, "bad_type"),
    (SEED_REQUEST, "task_data/video_params/duration_s", "7", "bad_type"),
    (SEED_REQUEST, "task_data/video_params/fps", 23, "not_allowed"),
    (SEED_REQUEST, "task_data/video_params/fps", 24.5, "bad_type"),
    (SEED_REQUEST, "task_data/video_params/camera", "pan", "not_allowed"),
    (SEED_REQUEST, "task_data/video_params/overlay", "true", "bad_type"),
    (SEED_REQUEST, "task_data/video_params/overlay", None, "bad_type"),
    (SEED_REQUEST, "task_data/video_params/resolutoin", "1x1", "unknown_field"),
    (SEED_REQUEST, "callback", "https://example.org", "unknown_field"),
    (IMAGE, "task_data/image_params/resolution", "4096x4096", "out_of_range"),
    (IMAGE, "task_data/image_params/resolution", "4000x1000", "unsupported_by_provider"),
    (IMAGE, "task_data/image_params/count", 5, "out_of_range"),
    (IMAGE, "task_data/image_params/panels", 3, "not_allowed"),
    (IMAGE, "task_data/image_data/character/name", "a" * 81, "too_long"),
    (AUDIO, "task_data/audio_params/duration_s", 5, "not_allowed"),
    (AUDIO, "task_data/audio_params/speed", 3, "out_of_range"),
    (AUDIO, "task_data/audio_params/sample_rate_hz", 8000, "not_allowed"),
    (AUDIO, "task_data/audio_data/language", "english!", "bad_format"),
    (AUDIO, "task_data/prompt", "wind", "not_allowed"),
]


@pytest.mark.parametrize(("base", "path", "value", "code"), BAD, ids=lambda item: str(item)[:40])
def test_bad_fields_are_422_at_their_place(
    api: Client, base: dict[str, Any], path: str, value: object, code: str
) -> None:
    """Each rule of a field has its code and pointer, and a violation stores nothing."""
    answer = submit(api, changed(base, path, value))
    assert answer.status_code == 422, answer.content
    assert ("/" + path, code) in [
        (error["pointer"], error["code"]) for error in answer.json()["errors"]
    ], answer.json()["errors"]
    assert not Task.objects.exists()


def test_all_errors_come_at_once(api: Client) -> None:
    """Envelope, task_data and headers are checked together, with hints."""
    document = {
        "task_type": "video_generation",
        "project": "x",
        "callback_url": "http://169.254.169.254/",
        "priority": "hihg",
        "webhook_events": ["task.complete"],
        "task_data": {
            "scene_data": {"dialogue": [{"text": "Hi."}, {"character": "A", "text": "x", "s": 1}]},
            "video_params": {"fps": 1, "duration_s": 99},
        },
    }
    answer = submit(api, document, **{"Idempotency-Key": "é"})
    assert answer.status_code == 422
    assert not Task.objects.exists()
    errors = {error["pointer"]: error for error in answer.json()["errors"]}
    assert set(errors) == {
        "",
        "/project",
        "/project_id",
        "/callback_url",
        "/priority",
        "/webhook_events/0",
        "/task_data/scene_data/prompt",
        "/task_data/scene_data/dialogue/0/character",
        "/task_data/scene_data/dialogue/1/s",
        "/task_data/video_params/fps",
        "/task_data/video_params/duration_s",
    }
    assert errors[""]["parameter"] == "Idempotency-Key"
    assert 'Did you mean "project_id"?' in errors["/project"]["message"]
    assert 'Did you mean "high"?' in errors["/priority"]["message"]


@pytest.mark.parametrize(
    ("given", "shown"), [("high", "high"), (1, "high"), (2, "normal"), ("low", "low"), (3, "low")]
)
def test_priorities_are_answered_as_words(api: Client, given: object, shown: str) -> None:
    """Priorities as numbers mean the same as words."""
    assert submit(api, {**SEED_REQUEST, "priority": given}).json()["priority"] == shown


def test_options_of_delivery_are_kept(api: Client) -> None:
    """The policy, the events and the deadline are stored in the row."""
    more = {"retry_policy": [0, 5], "webhook_events": [], "timeout_seconds": 9}
    assert submit(api, {**SEED_REQUEST, **more}).status_code == 201
    task = Task.objects.get()
    assert (task.retry_policy, task.webhook_events, task.timeout_seconds) == ([0, 5], [], 9)


EVERY_EVENT = ["task.started", "task.progress", "task.completed", "task.failed", "task.cancelled"]
GOOD: list[tuple[dict[str, Any], str, object]] = [
    (SEED_REQUEST, "project_id", "aZ0_-" * 20),
    (SEED_REQUEST, "metadata", {"a": "x" * (16_384 - len('{"a": ""}'))}),
    (SEED_REQUEST, "metadata", {}),
    (SEED_REQUEST, "timeout_seconds", 1),
    (SEED_REQUEST, "timeout_seconds", 7_200),
    (IMAGE, "timeout_seconds", 3_600),
    (SEED_REQUEST, "webhook_events", EVERY_EVENT),
    (SEED_REQUEST, "retry_policy", []),
    (SEED_REQUEST, "retry_policy", [0, 0.5] * 10),
    (SEED_REQUEST, "retry_policy", [86_400]),
    (SEED_REQUEST, "retry_policy", "durable"),
    (SEED_REQUEST, "callback_url", "https://a.example.org/" + "a" * (2_048 - 22)),
]


@pytest.mark.parametrize(("base", "path", "value"), GOOD, ids=lambda item: str(item)[:40])
def test_the_ends_of_every_range_are_taken(
    api: Client, base: dict[str, Any], path: str, value: object
) -> None:
    """The longest, shortest and emptiest values of the contract are accepted."""
    answer = submit(api, changed(base, path, value), **{"Idempotency-Key": "~" * 255})
    assert answer.status_code == 201, answer.content


def test_what_is_left_out_is_the_default(api: Client) -> None:
    """The type's own deadline, the three ends as events, the service's policy, normal priority."""
    submit(api, SEED_REQUEST)
    submit(api, IMAGE)
    for task in Task.objects.all():
        assert task.timeout_seconds == TASK_TYPES[task.task_type].timeout_seconds
        assert task.webhook_events == ["task.completed", "task.failed", "task.cancelled"]
        assert (task.retry_policy, task.priority, task.metadata is None) == (
            None,
            2,
            task.task_type == "image_generation",
        )


def test_callbacks_of_a_key_can_be_bound_to_hosts(db: None) -> None:
    """A key with a list of hosts may name only these in callbacks."""
    _, key = make_api_key(callback_hosts=["your-app.com"])
    api = Client(headers={"x-api-key": key})
    assert submit(api, SEED_REQUEST).status_code == 201
    for url, code in {
        "https://elsewhere.com/": "blocked_address",
        "https://your-app.com.elsewhere.com/": "blocked_address",
        "https://your-app.com@elsewhere.com/": "invalid_url",
        "https://[::1": "invalid_url",
    }.items():
        answer = submit(api, {**SEED_REQUEST, "callback_url": url})
        assert answer.status_code == 422
        assert [error["code"] for error in answer.json()["errors"]] == [code]


def test_quota_of_queued_tasks_is_429(api: Client, settings: Any) -> None:
    """A project at its quota gets 429 with Retry-After; another project does not."""
    settings.QUEUE_LIMIT_PER_PROJECT = 2
    for _ in range(2):
        assert submit(api, SEED_REQUEST).status_code == 201
    answer = submit(api, SEED_REQUEST)
    assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert int(answer["Retry-After"]) > 0
    assert submit(api, {**SEED_REQUEST, "project_id": "other"}).status_code == 201


def test_redis_away_is_still_201(api: Client, settings: Any, monkeypatch: Any) -> None:
    """Without Redis a submit is accepted: the row is the promise, the ticket only a hint."""
    settings.REDIS_URL = "unix:///nowhere/redis.sock?socket_timeout=0.25"
    monkeypatch.setattr(redis_gate, "_client", None)
    try:
        answer = submit(api, SEED_REQUEST)
    finally:
        monkeypatch.undo()
    assert answer.status_code == 201
    assert answer["RateLimit-Limit"]
