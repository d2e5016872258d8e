"""Is anything that a task says to a workflow dropped in silence? Every field, every example."""

import json

import pytest

from tasks_app.api.task_requests import check_task_data
from tasks_app.providers import get_provider
from tasks_app.providers.comfyui import graphs, wanted
from tasks_app.providers.comfyui.provider import seed_of
from tasks_app.task_types import TASK_TYPES
from tests.support.comfyui import EXAMPLES, film, still, template, write
from tests.support.every_field import fields, samples
from tests.tasks.providers.test_accepts import leaves

#: Values that ask for nothing, and the prompt of a workflow that has none.
ASKS_NOTHING = {("overlay", "false"), ("style", '"auto"'), ("camera", '"auto"'), ("count", "1")}
#: Values that become something else: frames and sides.
CONVERTED = ("duration_s", "resolution")


@pytest.fixture
def pool(settings, tmp_path):
    """No server, the examples as templates, and two more."""
    documents = {path.stem: json.loads(path.read_text()) for path in EXAMPLES.glob("*.json")}
    steps = {"strength": ["2", "strength"], "width": ["1", "width"], "height": ["1", "height"]}
    documents["knobs"] = template(
        still(),
        "3",
        parameters=steps,
        converters={"strength": {"min": 0, "max": 1}, "width": {"max": 1024}},
    )
    documents["short"] = template(
        film(),
        "6",
        task_type="video_generation",
        parameters={"frames": ["1", "batch_size"]},
        converters={"frames": {"from": "duration_s", "fps": 16, "max": 81}},
    )
    settings.COMFYUI_URLS = ["gpu-a=http://127.0.0.1:1"]
    settings.PROVIDER_ALLOW_NETWORKS = ["comfyui=127.0.0.0/8"]
    settings.COMFYUI_WORKFLOWS = str(write(tmp_path / "workflows", **documents))
    settings.GENERATION_PROVIDERS = dict.fromkeys(TASK_TYPES, "comfyui")
    return documents


def problems(task_type, **task_data):
    """Return pointers and codes of what a submit hears."""
    found = check_task_data(task_type, task_data)[1]
    return {(each["pointer"], each["code"]): each["message"] for each in found}


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_fields_and_options_are_told_apart_by_the_schema(task_type):
    """Proves that what is set by a field of its own is one of the task's fields."""
    names = {path.rpartition("/")[2] for path in fields(task_type)}
    assert names >= wanted.FIELDS[TASK_TYPES[task_type].media]


@pytest.mark.parametrize("model", [path.stem for path in sorted(EXAMPLES.glob("*.json"))])
def test_what_is_said_arrives_or_is_refused(pool, model):
    """Proves that every field of a task is in the graph that is sent, or refused by its pointer."""
    task_type = pool[model]["task_type"]
    made = get_provider(task_type).templates()[model]
    given = {name: ["task-1/a.png"] for name in made.files}
    for sample in samples():
        if sample.task_type != task_type or sample.path in ("provider", "model"):
            continue
        task = {**sample.task(), "model": model}
        stored, found = check_task_data(task_type, task)
        whole = sample.path.partition("/0/")[0]
        mine = [one for one in found if one["pointer"].startswith(f"/task_data/{whole}")]
        if mine:
            assert {one["code"] for one in mine} == {"unsupported_by_provider"}, mine
            assert all("The provider comfyui" in one["message"] for one in mine), mine
            continue
        name = sample.path.rpartition("/")[2]
        if (name, json.dumps(sample.value)) in ASKS_NOTHING:
            continue
        if name == "prompt" and "prompt" not in made.parameters:
            continue
        values = wanted.values_of(task_type, stored)
        seed = values.get("seed", 7)
        graph = graphs.fill(made, values, task_id="task-1", seed=seed, files=given)
        if sample.path.startswith("inputs/"):
            assert given[name][0] in leaves(graph), sample
        elif name in CONVERTED:
            plain = graphs.fill(made, {}, task_id="task-1", seed=seed, files=given)
            assert graph != plain, sample
        else:
            assert leaves(sample.value) <= leaves(graph), sample


def test_a_template_that_is_not_there_is_refused(pool):
    """Proves that a model is a template of the task's own type, and the others are named."""
    found = problems("image_generation", prompt="x", model="film")
    [(place, message)] = found.items()
    assert place == ("/task_data/model", "not_allowed")
    assert "knobs, restyle, sdxl or still" in message
    assert ("/task_data/model", "not_allowed") in problems("image_generation", prompt="x")


def test_options_are_the_templates_own(pool):
    """Proves that an option sets a parameter of the template, within its bounds, and no other."""
    ask = {"prompt": "x", "model": "knobs"}
    assert problems("image_generation", **ask, options={"strength": 0.25}) == {}
    for options in ({"strength": 2}, {"strength": "much"}, {"steps": 3}, {"seed": 3}):
        [(pointer, code)] = problems("image_generation", **ask, options=options)
        assert (pointer, code) == (
            f"/task_data/options/{next(iter(options))}",
            "unsupported_by_provider",
        )


def test_a_converted_value_out_of_bounds_is_refused_at_its_own_field(pool):
    """Proves that a clip too long for the model is refused where its length was said."""
    ask = {"prompt": "x", "model": "short"}
    assert problems("video_generation", **ask, video_params={"duration_s": 5}) == {}
    long = problems("video_generation", **ask, video_params={"duration_s": 6})
    assert list(long) == [("/task_data/video_params/duration_s", "unsupported_by_provider")]
    wide = problems(
        "image_generation", prompt="x", model="knobs", image_params={"resolution": "2048x256"}
    )
    assert list(wide) == [("/task_data/image_params/resolution", "unsupported_by_provider")]


def test_what_a_workflow_needs_must_be_given(pool):
    """Proves that a workflow which lives on a picture refuses a task without one at submit."""
    found = problems("image_generation", prompt="x", model="restyle")
    assert list(found) == [("/task_data/inputs/image", "required")]


def test_the_only_template_is_the_default(settings, tmp_path):
    """Proves that with one template tasks need not name it."""
    settings.COMFYUI_URLS = ["http://127.0.0.1:1"]
    settings.COMFYUI_WORKFLOWS = str(write(tmp_path, still=template(still(), "3")))
    settings.GENERATION_PROVIDERS = {"image_generation": "comfyui"}
    provider = get_provider("image_generation")
    assert (provider.model, provider.models) == ("still", ("still",))
    assert problems("image_generation", prompt="x") == {}


def test_a_seed_is_the_jobs_own():
    """Proves that the seed of a job is the same after a crash, and another for another job."""
    first, other = "7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11", "7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c12"
    assert seed_of(first) == seed_of(first) != seed_of(other)
    assert 0 <= seed_of(first) < 2**32
