"""Does a request hold what was said, and the receipt what was sent? Through the real loop."""

from typing import Any

import pytest

from tasks_app.models import Task
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support.remote_work import CREATE, GET, TASK, TYPE, ended, remote_work, use

pytestmark = pytest.mark.django_db(transaction=True)


def made(**more: Any) -> Task:
    """Return the ended task of a submit."""
    task = submit(Submit("p", TYPE, {**TASK, **more})).task
    with remote_work():
        run.run_next(TYPE)
        return ended(task)


@pytest.mark.parametrize(
    ("options", "more", "seed"),
    [
        ({}, {}, None),
        ({"fields": {"prompt": "prompt", "noise": "seed"}}, {"seed": 77}, 77),
        ({"fields": {"prompt": "prompt", "noise": "seed"}}, {}, None),
        ({}, {"options": {"seed": 9}}, 9),
        ({"input": {"seed": 5}}, {}, 5),
        ({}, {"seed": 77}, None),
    ],
)
def test_a_receipt_names_the_seed_that_was_sent(fake, options, more, seed):
    """Proves that a seed is reported if the request carried it, and only then."""
    use(**options)
    task = made(**more)
    sent = fake.calls(CREATE)[0].json()["input"]
    assert task.result["seed"] == seed
    assert (seed in sent.values()) == (seed is not None)


def test_all_that_was_made_is_kept(fake):
    """Proves that none of six pictures is left out."""
    use()
    fake.script[GET] = [{"status": "succeeded", "output": [f"{fake.url}/out.png"] * 6}]
    assert len(made(options={"num_outputs": 6}).result["files"]) == 6


def test_more_files_than_are_taken_fail_the_task(fake):
    """Proves that a result is refused as a whole, rather than cut short."""
    use()
    fake.script[GET] = [{"status": "succeeded", "output": [f"{fake.url}/out.png"] * 33}]
    task = made()
    assert (task.status, task.error_code) == ("failed", "output_invalid")
