"""Is anything that a client says dropped in silence? Every provider, task type and field."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks_app.api.task_requests import check_task_data
from tasks_app.media.inputs import InputFile
from tasks_app.models import MediaFile
from tasks_app.providers import get_provider
from tasks_app.providers.base import ProviderError
from tasks_app.providers.previz.output import studio
from tasks_app.providers.previz.script import defaults
from tasks_app.providers.remote.base import RemoteProvider, Work
from tasks_app.providers.remote.client import ProviderClient
from tasks_app.task_types import TASK_TYPES
from tests.support.every_field import FILE, fields, samples
from tests.support.fake_provider import FakeProvider, Reply, png

MODEL = "acme/painter"
#: Values that ask for nothing that a model would not do anyway, so that nothing is sent.
ASKS_NOTHING = {("overlay", "false"), ("format", '"mp4"'), ("kind", '"voice"')}
#: A model that takes everything, each under a name of its own.
EVERYTHING = {
    f"x_{path.rpartition('/')[2]}": path.partition("/")[2].replace("/", ".") or path
    for task_type in TASK_TYPES
    for path in fields(task_type)
    if "/0/" not in path and path not in ("options", "model", "provider")
} | {"x_name": "character.name", "x_description": "character.description"}
REMOTES = {
    "openai": {"provider": "openai", "options": {"model": MODEL}},
    "openai, mapped": {"provider": "openai", "options": {"model": MODEL, "fields": EVERYTHING}},
    "fal": {"provider": "fal", "options": {"model": MODEL}},
    "fal, mapped": {"provider": "fal", "options": {"model": MODEL, "fields": EVERYTHING}},
    "replicate": {"provider": "replicate", "options": {"model": MODEL}},
    "cog": {"provider": "cog", "options": {"model": MODEL}},
    "cog, speech": {"provider": "cog", "options": {"fields": {"script": "text"}}},
}


@pytest.fixture
def fake(settings):
    """A stand-in that refuses every submit, so that what it received is all there is."""
    with FakeProvider() as server:
        for name in ("REPLICATE", "OPENAI", "FAL", "COG"):
            setattr(settings, f"{name}_BASE_URL", server.url)
        settings.REPLICATE_API_TOKEN = settings.OPENAI_API_KEY = settings.FAL_API_KEY = "k"
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
        settings.FAL_STORAGE_URL = ""
        server.script = {
            f"POST /{path}": [Reply(422)]
            for path in (
                MODEL,
                f"v1/models/{MODEL}/predictions",
                "v1/images/generations",
                "v1/audio/speech",
                "v1/videos",
            )
        } | {"PUT /predictions/j1": [Reply(422)]}
        yield server


def configure(settings: Any, entry: Any) -> None:
    settings.GENERATION_PROVIDERS = dict.fromkeys(TASK_TYPES, entry)


def received(fake: FakeProvider, work_dir: Path, task_type: str, stored: dict) -> Any:
    """Return the body of the request that the stand-in got for a stored task."""
    fake.seen.clear()
    made = get_provider(task_type)
    assert isinstance(made, RemoteProvider)
    model = stored.get("model") or made.model
    (server,) = made.servers(model)
    bare = Work("j1", "t1", 1, task_type, stored, model, server.label, {}, "", work_dir)
    work = replace(bare, inputs=handed_in(stored), seconds_left=60)

    async def submit() -> None:
        async with ProviderClient(server) as line:
            await made.submit(work, line)

    with pytest.raises(ProviderError):
        asyncio.run(submit())
    (request,) = fake.seen
    if request.headers["content-type"].startswith("multipart/"):
        return {"parts": request.body.decode("latin-1")}
    return request.json()


def handed_in(stored: dict) -> dict[str, list[InputFile]]:
    """Return the task's files, all of them the picture that the samples name."""
    names = list(stored.get("inputs") or {})
    names += ["reference_images"] * ("reference_images" in (stored.get("scene_data") or {}))
    if names and not default_storage.exists("asset.png"):
        default_storage.save("asset.png", ContentFile(png()))
    row = MediaFile(id=FILE["asset"], path="asset.png", role="asset")
    file = InputFile("x", row.id, "", "image/png", len(png()), 64, 36, None, None, row)
    return {name: [file] for name in names}


def leaves(part: Any) -> set[str]:
    """Return every value in a document, as text."""
    if isinstance(part, dict | list):
        values = part.values() if isinstance(part, dict) else part
        return {text for value in values for text in leaves(value)}
    return {part if isinstance(part, str) else json.dumps(part)}


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_every_field_has_a_sample(task_type: str) -> None:
    """A new field of a task cannot be forgotten by the tests below."""
    assert {sample.path for sample in samples() if sample.task_type == task_type} == fields(
        task_type
    )


def test_nothing_is_stored_that_was_not_said() -> None:
    """No default enters a task, whichever of its fields are given."""
    for sample in samples():
        stored, _ = check_task_data(sample.task_type, sample.task())
        assert leaves(stored) <= leaves(sample.task()), sample.path


def is_file(path: str) -> bool:
    return path.startswith("inputs/") or path.endswith("/reference_images")


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("who", REMOTES)
def test_what_is_said_arrives_or_is_refused(fake, settings, tmp_path, who, task_type):
    """Every field of a task is in what the provider received, or refused with its pointer."""
    configure(settings, REMOTES[who])
    settings.PUBLIC_URL = "https://movies.example.net"
    made = get_provider(task_type)
    for sample in samples():
        if sample.task_type != task_type or sample.path == "provider":
            continue
        stored, problems = check_task_data(task_type, sample.task())
        whole = sample.path.partition("/0/")[0]  # a list is refused as one
        mine = [one for one in problems if one["pointer"].startswith(f"/task_data/{whole}")]
        if mine:
            codes = {one["code"] for one in mine}
            assert codes <= {"unsupported_by_provider", "not_allowed"}, (sample, mine)
            assert all(f"The provider {made.name}" in one["message"] for one in mine), mine
        elif (sample.path.rpartition("/")[2], json.dumps(sample.value)) not in ASKS_NOTHING:
            body = received(fake, tmp_path, task_type, stored)
            told = leaves(body)
            if is_file(sample.path):  # by a link, or as a part of the request
                (asset,) = leaves(sample.value)
                assert any(asset in text for text in told), (sample.path, body)
            else:
                assert leaves(sample.value) <= told, (sample.path, body)


PLAIN = [
    ("image_generation", {"prompt": "x"}, {"prompt": "x"}),
    (
        "image_generation",
        {
            "image_data": {"prompt": "x"},
            "image_params": {"resolution": "1536x1024", "count": 2, "format": "webp"},
        },
        {"prompt": "x", "size": "1536x1024", "n": 2, "output_format": "webp"},
    ),
    ("video_generation", {"prompt": "x"}, {"prompt": "x"}),
    (
        "video_generation",
        {
            "scene_data": {"prompt": "x"},
            "video_params": {"resolution": "720x1280", "duration_s": 8, "format": "mp4"},
        },
        {"prompt": "x", "size": "720x1280", "seconds": "8"},
    ),
    ("audio_generation", {"audio_data": {"text": "Go."}}, {"input": "Go.", "voice": "alloy"}),
    (
        "audio_generation",
        {
            "audio_data": {"text": "Go.", "voice": "nova", "kind": "voice"},
            "audio_params": {"format": "ogg", "speed": 1.5},
        },
        {"input": "Go.", "voice": "nova", "response_format": "opus", "speed": 1.5},
    ),
]


@pytest.mark.parametrize(("task_type", "task", "body"), PLAIN)
def test_a_plain_request_is_what_openai_takes(fake, settings, tmp_path, task_type, task, body):
    """The body holds what was said in the protocol's words, and nothing else but a voice."""
    configure(settings, REMOTES["openai"])
    stored, problems = check_task_data(task_type, task)
    assert problems == []
    assert received(fake, tmp_path, task_type, stored) == {**body, "model": MODEL}


def test_the_operator_says_what_a_client_may(fake, settings, tmp_path):
    """Defaults give way to the client, fixed inputs do not, and both are held to at submit."""
    options = {
        "model": MODEL,
        "fields": {
            "prompt": "prompt",
            "length": "duration_s",
            "rate": "fps",
            "ratio": "aspect_ratio",
        },
        "defaults": {"length": 5},
        "input": {"rate": 24},
        "values": {"duration_s": [5, 10]},
    }
    configure(settings, {"provider": "fal", "options": options})

    def said(task: dict[str, Any]) -> Any:
        stored, problems = check_task_data("video_generation", {"prompt": "x", **task})
        if problems:
            return [(one["pointer"], one["message"].partition(" takes ")[2]) for one in problems]
        return received(fake, tmp_path, "video_generation", stored)

    assert said({}) == {"prompt": "x", "length": 5, "rate": 24}
    params = {"duration_s": 10, "fps": 24, "resolution": "1080x1920"}
    assert said({"video_params": params}) == {
        **{"prompt": "x", "length": 10, "rate": 24, "ratio": "9:16"},
    }
    root = "/task_data/video_params"
    params = {"duration_s": 7, "fps": 30, "resolution": "1000x900"}
    assert sorted(said({"video_params": params})) == [
        (f"{root}/duration_s", "5 or 10 as duration_s."),
        (f"{root}/fps", "24 as fps."),
        (
            f"{root}/resolution",
            "a shape of 16:9, 9:16, 1:1, 4:3, 3:4, 3:2, 2:3, 21:9, 9:21, 2:1, 1:2, 5:4 or 4:5 "
            "as resolution.",
        ),
    ]
    assert said({"options": {"rate": 30}}) == [("/task_data/options/rate", "")]


@pytest.mark.parametrize("wrong", [5, [], {}, {"lest": 1}, {"least": "1"}])
def test_values_that_nobody_can_read_are_told_by_check(settings, wrong):
    """`manage.py check` names them, before a submit meets them."""
    options = {"model": MODEL, "values": {"duration_s": wrong}}
    configure(settings, {"provider": "openai", "options": options})
    found = [found.msg for found in run_checks(tags=["tasks"])]
    assert sum("Its options do not fit" in text for text in found) == len(TASK_TYPES)


def test_names_that_no_task_has_are_told_by_check(settings):
    """`manage.py check` names a slip in fields and values, which would map nothing, and only it."""
    fields = {"prompt": "promt", "image": "inputs.image", "w": "width", "who": "character.name"}
    options = {"model": MODEL, "fields": fields, "values": {"durations": "any", "fps": [24]}}
    configure(settings, {"provider": "replicate", "options": options})
    found = [found.msg for found in run_checks(tags=["tasks"]) if "no parameter" in found.msg]
    assert len(found) == 2 * len(TASK_TYPES)
    assert {text.split(": ")[1].split()[0] for text in found} == {"promt", "durations"}


# -- previz: what is said changes what is made, or is refused --------------------------------------


def made_of(work_dir: Path, task_type: str, task: dict[str, Any]) -> str:
    """Return a digest of all that previz makes of a task: the files and what is told of them."""
    data = defaults.filled(task_type, task)
    data["options"].setdefault("quality", "draft")
    work_dir.mkdir()
    told = studio.make({"task_type": task_type, "task_data": data}, work_dir, lambda *_: None)
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(work_dir.iterdir())]
    return json.dumps([told["metadata"], files])


#: What previz does anyway, or can do in one way only.
AS_EVER = {"video_params/format"}


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_previz_uses_what_is_said_or_refuses_it(settings, tmp_path, task_type):
    """Every field of a task changes what previz makes, or is refused with its pointer."""
    configure(settings, "previz")
    plain: dict[str, str] = {}
    for number, sample in enumerate(samples()):
        if sample.task_type != task_type or sample.path in ("provider", *AS_EVER):
            continue
        _, problems = check_task_data(task_type, sample.task())
        if problems:
            (problem,) = problems
            assert problem["pointer"].startswith(f"/task_data/{sample.path}")
            codes = ("unsupported_by_provider", "unsupported_language", "not_allowed")
            assert problem["code"] in codes
            assert "Previz" in problem["message"]
            continue
        key = json.dumps(sample.around)
        if key not in plain:
            plain[key] = made_of(tmp_path / f"plain_{number}", task_type, sample.around)
        made = made_of(tmp_path / str(number), task_type, sample.task())
        assert made != plain[key], sample.path
