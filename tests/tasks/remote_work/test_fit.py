"""What becomes of a task that its provider takes no more, or whose file came out otherwise?"""

import pytest

from tasks_app.models import MediaFile, RemoteJob
from tasks_app.state import inputs
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support import factories
from tests.support.remote_work import CREATE, TASK, TYPE, ended, remote_work, use

pytestmark = pytest.mark.django_db(transaction=True)

SEEDED = {**TASK, "seed": 7}
MAPPED = {"prompt": "prompt", "seed": "seed", "picture": "inputs.image"}


def failed(task):
    with remote_work():
        task = ended(task)
    return task.status, task.error_code, task.error


@pytest.mark.parametrize("is_begun", [False, True])
def test_what_the_configuration_does_not_take_any_more_is_not_dropped(fake, is_begun):
    """Proves that a parameter whose mapping went is named, before a submit and before a job."""
    use(fields=MAPPED)
    task = submit(Submit("p", TYPE, SEEDED)).task
    if is_begun:
        run.run_next(TYPE)
        assert RemoteJob.objects.get(task=task).state == "submitting"
    use()
    status, code, error = failed(task)
    assert (status, code) == ("failed", "unsupported_by_provider")
    assert error.startswith("Task execution failed: its provider does not take it. ")
    assert "/task_data/seed: The provider replicate does not use seed." in error
    assert fake.count(CREATE) == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({**TASK, "provider": "fal"}, 'It names the provider "fal"; there is replicate now.'),
        ({**TASK, "model": "acme/gone"}, "/task_data/model: This model is not among"),
    ],
)
def test_a_task_that_names_what_is_gone_is_made_by_nobody_else(fake, data, words):
    """Proves that a named provider or model is not replaced in silence."""
    use(fields=MAPPED)
    status, code, error = failed(submit(Submit("p", TYPE, data)).task)
    assert (status, code) == ("failed", "unsupported_by_provider")
    assert words in error
    assert fake.count(CREATE) == 0


def test_the_built_in_renderer_drops_nothing_either(settings):
    """Proves that work on this machine is held against the same word."""
    settings.GENERATION_PROVIDERS = {TYPE: "previz"}
    data = {"image_data": {"prompt": "a door"}, "image_params": {"style": "cubist"}}
    task = submit(Submit("p", TYPE, data)).task
    run.run_next(TYPE)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "unsupported_by_provider")
    assert "/task_data/image_params/style: Previz takes auto, color, noir or pencil" in task.error


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"media_type": "video/mp4"}, "image: This is video/mp4; wanted is image."),
        ({"size_bytes": 2_000}, "image: It has 2000 bytes; the provider takes 1000."),
        ({"width": 5_000}, "image: It has 5000 pixels a side; the provider takes 4096."),
    ],
)
def test_a_fetched_file_is_held_against_the_limits(fake, facts, words):
    """Proves that kind and size of an input that was still to be fetched are checked in the end."""
    limits = {"inputs.image": {"max_bytes": 1_000, "max_side": 4_096}}
    use(fields=MAPPED, values=limits)
    asset = factories.make_asset("pending", project_id="p")
    data = {**TASK, "inputs": {"image": {"asset": asset.pk}}}
    task = submit(Submit("p", TYPE, data, inputs=inputs.values_of(data))).task
    MediaFile.objects.filter(pk=asset.pk).update(
        **{"state": "ready", "media_type": "image/png", "size_bytes": 9, **facts}
    )
    assert inputs.settle(asset.pk) == 1
    status, code, error = failed(task)
    assert (status, code) == ("failed", "input_failed")
    assert error == f"Task execution failed: one of its inputs cannot be used. {words}"
    assert fake.count(CREATE) == 0
