"""Does a client learn what it may say to whom, and is a refusal of help?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator

from tasks_app.api.openapi import hooks
from tasks_app.api.task_requests import check_task_data
from tasks_app.task_types import TASK_TYPES
from tests.support.every_field import samples
from tests.support.factories import SEED_REQUEST

pytestmark = pytest.mark.django_db


def configure(settings: Any, provider: str, **options: Any) -> None:
    entry = {"provider": provider, "options": options}
    settings.GENERATION_PROVIDERS = dict.fromkeys(TASK_TYPES, entry)


def listed(api: Client) -> dict[str, dict[str, Any]]:
    """Return the answer's entries by task type, after holding the answer to its schema."""
    body = api.get("/api/v1/providers").json()
    document = json.loads(hooks.schema_bytes())
    schema = {**document["components"]["schemas"]["Providers"], **document}
    assert [error.message for error in Draft202012Validator(schema).iter_errors(body)] == []
    return {entry["task_type"]: entry for entry in body["providers"]}


def test_the_list_says_what_previz_takes(api: Client, settings: Any) -> None:
    """Names, pointers, bounds and defaults are there, of each task type."""
    configure(settings, "previz")
    found = listed(api)
    assert set(found) == set(TASK_TYPES)
    (film,) = found["video_generation"]["models"]
    assert (film["model"], film["is_default"], film["inputs"]) == ("previz-2", True, {})
    assert film["parameters"]["duration_s"] == {
        "pointer": "/task_data/video_params/duration_s",
        "least": 1,
        "most": 15,
        "default": 7,
    }
    assert film["parameters"]["resolution"]["largest"] == "1920x1080"
    assert film["options"] == {"quality": {"choices": ["final", "draft"]}}
    assert "negative_prompt" not in film["parameters"]
    (sound,) = found["audio_generation"]["models"]
    assert sound["parameters"]["voice"]["only_with"] == {"parameter": "kind", "choices": ["voice"]}


def test_the_list_says_what_each_model_takes(api: Client, settings: Any) -> None:
    """Models differ, and the operator's word on values wins over the protocol's."""
    settings.GENERATION_PRICES = {
        "dall-e-3": {"unit": "picture", "amount": "0.04", "currency": "USD"}
    }
    configure(
        settings,
        "openai",
        model="gpt-image-1",
        models=["dall-e-3"],
        values={"duration_s": [5, 10], "voice": "any"},
    )
    found = listed(api)
    first, second = found["image_generation"]["models"]
    assert (first["model"], second["model"]) == ("gpt-image-1", "dall-e-3")
    assert "1536x1024" in first["parameters"]["resolution"]["choices"]
    assert "1792x1024" in second["parameters"]["resolution"]["choices"]
    assert "format" not in second["parameters"]
    assert first["price"] is None
    assert second["price"] == {"unit": "picture", "amount": "0.04", "currency": "USD"}
    film, speech = (found[name]["models"][0]["parameters"] for name in list(TASK_TYPES)[::2])
    assert film["duration_s"]["choices"] == [5, 10]
    assert "choices" not in speech["voice"]


@pytest.mark.parametrize("provider", ["previz", "openai", "fal"])
def test_the_list_and_the_refusals_agree(api: Client, settings: Any, provider: str) -> None:
    """What is not in the list is refused, and what is refused by its name is not in the list."""
    configure(settings, provider, **({} if provider == "previz" else {"model": "m"}))
    found = listed(api)
    for sample in samples():
        if "/0/" in sample.path or sample.path in ("prompt", "provider", "model", "options"):
            continue
        model = found[sample.task_type]["models"][0]
        pointers = {entry["pointer"] for entry in model["parameters"].values()}
        pointers |= {f"/task_data/inputs/{name}" for name in model["inputs"]}
        pointer = f"/task_data/{sample.path}"
        _, problems = check_task_data(sample.task_type, sample.task())
        messages = [one["message"] for one in problems if one["pointer"] == pointer]
        assert (pointer not in pointers) == any("does not use" in text for text in messages)


REFUSED = [
    ("image_generation", {"prompt": "x", "image_params": {"resolution": "1920x1080"}}),
    ("video_generation", {"prompt": "x", "video_params": {"duration_s": 7}}),
    ("audio_generation", {"prompt": "rain on a tin roof"}),
    ("audio_generation", {"audio_data": {"text": "Go.", "voice": "narrator_female"}}),
    ("image_generation", {"prompt": "x", "seed": 7}),
    ("image_generation", {"prompt": "x", "options": {"n": 6}, "image_params": {"count": 2}}),
    ("image_generation", {"prompt": "x", "options": {"model": "dearer"}}),
]
WORDS = [
    "takes 1024x1024, 1024x1536 or 1536x1024 as resolution",
    "takes 4, 8 or 12 as duration_s",
    "does not use prompt. It takes text, voice, format, speed and kind",
    "takes alloy, ash, ballad, cedar",
    "does not use seed. It takes",
    "Give count only once",
    "name the model in task_data.model",
]


@pytest.mark.parametrize(("case", "words"), list(zip(REFUSED, WORDS, strict=True)))
def test_a_refusal_says_what_is_taken_instead(
    settings: Any, case: tuple[str, dict[str, Any]], words: str
) -> None:
    """The sentence names the provider and what it takes, so that nobody has to look it up."""
    configure(settings, "openai", model="m")
    (problem,) = check_task_data(*case)[1]
    assert problem["code"] == "unsupported_by_provider"
    assert words in problem["message"]


def test_a_flat_prompt_is_refused_where_the_client_wrote_it(settings: Any) -> None:
    """The pointer is that of the request, not of the place to which the prompt was moved."""
    configure(settings, "openai", model="m")
    (problem,) = check_task_data("audio_generation", {"prompt": "rain"})[1]
    assert problem["pointer"] == "/task_data/prompt"


def test_the_sample_of_the_docs_is_taken_by_previz_and_refused_by_name(settings: Any) -> None:
    """The first request of everybody works as it stands; who cannot make its size says so."""
    configure(settings, "previz")
    task = SEED_REQUEST["task_data"]
    assert check_task_data("video_generation", task) == (task, [])
    configure(settings, "openai", model="sora-2")
    (problem,) = check_task_data("video_generation", task)[1]
    assert problem["pointer"] == "/task_data/video_params/resolution"
    assert "1280x720 or 720x1280" in problem["message"]
