"""When does the next provider of a chain make a task, and who is told?"""

from decimal import Decimal

import pytest
from django.core.checks import run_checks

from tasks_app.models import Cost, Task
from tasks_app.remote_work.loop import _provider
from tasks_app.state.submit import Submit, submit
from tasks_app.tickets import stopping
from tasks_app.work import run
from tests.api.test_submit import IMAGE
from tests.api.test_submit import submit as post
from tests.support.fake_provider import Reply, png
from tests.support.remote_work import (
    CREATE,
    GET,
    MODEL,
    TASK,
    TYPE,
    begin,
    ended,
    job_of,
    remote_work,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

STILL = "tests.support.providers.StillProvider"
OTHER = "acme/etcher"
OPTIONS = {"model": MODEL, "poll_seconds": 0.05}


@pytest.fixture
def chain(fake, settings):
    """Replicate, then fal, then this machine."""
    settings.GENERATION_PROVIDERS = {
        TYPE: [
            {"provider": "replicate", "options": OPTIONS},
            {"provider": "fal", "options": OPTIONS},
            STILL,
        ]
    }
    return fake


def test_the_next_provider_makes_what_the_first_could_not_begin(chain):
    """Proves that all attempts go to the first, then the receipt says who was not to be had."""
    chain.script[CREATE] = [Reply(500)]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.result["provider"]) == ("completed", "fal")
    failed = {"provider": "replicate", "error_code": "provider_unavailable", "attempts": 3}
    assert task.result["fallback_from"] == [failed]
    assert (chain.count(CREATE), chain.count(f"POST /{MODEL}"), task.error_code) == (3, 1, "")


def test_a_fallback_is_reserved_and_booked_at_its_own_price(chain, settings):
    """Proves that the estimate is the first provider's, and from then on that of who serves."""
    settings.GENERATION_PROVIDERS[TYPE][1]["options"] = {**OPTIONS, "model": OTHER}
    settings.GENERATION_PRICES = {
        name: {"unit": "run", "amount": amount, "currency": "USD"}
        for name, amount in ((MODEL, "0.10"), (OTHER, "0.70"))
    }
    chain.script[CREATE] = [Reply(401)]
    chain.script[f"POST /{OTHER}"] = chain.script[f"POST /{MODEL}"]
    made = submit(Submit("p", TYPE, TASK))
    assert made.response["estimated_cost"]["amount"] == "0.10"
    with remote_work():
        wait_until(lambda: ended_first(made.task), 30)
        made.task.refresh_from_db()
        assert made.task.reserved_amount == Decimal("0.70")
        task = ended(made.task)
    assert (task.result["provider"], task.result["cost"]["amount"]) == ("fal", "0.70")
    assert [cost.amount for cost in Cost.objects.all()] == [Decimal("0.70")]


def test_a_chain_may_end_on_this_machine(chain, settings):
    """Proves that refused credentials go on at once, through remote providers to a local one."""
    chain.script[CREATE] = chain.script[f"POST /{MODEL}"] = [Reply(401)]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.result["provider"]) == ("completed", "still")
    tried = [(each["provider"], each["attempts"]) for each in task.result["fallback_from"]]
    assert tried == [("replicate", 1), ("fal", 1)]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_goes_to_nobody_else(chain, status):
    """Proves that what a provider refused is not shown to the next."""
    chain.script[CREATE] = [Reply(status)]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.fallback_from, chain.count(f"POST /{MODEL}")) == ("failed", [], 0)


def test_work_that_may_have_begun_goes_to_nobody_else(chain):
    """Proves that after an unclear submit no other provider is paid."""
    chain.script[CREATE] = [Reply(headers={"content-length": "500"}), Reply(500), Reply(500)]
    with remote_work():
        task = ended(begin())
    assert (task.error_code, task.fallback_from) == ("provider_unavailable", [])
    assert chain.count(f"POST /{MODEL}") == 0


def test_lost_work_goes_to_nobody_else(chain):
    """Proves that work which had begun and vanished is not begun at another provider."""
    chain.script[GET] = [Reply(404)]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.fallback_from) == ("failed", [])


def test_a_task_that_names_its_provider_gets_no_other(chain):
    """Proves that the client's own word is kept."""
    chain.script[CREATE] = [Reply(401)]
    with remote_work():
        task = begin()
        Task.objects.filter(pk=task.pk).update(task_data={**TASK, "provider": "replicate"})
        task = ended(task)
    assert (task.error_code, task.fallback_from) == ("provider_auth", [])


def test_a_process_that_died_after_the_change_leaves_the_work_to_the_next(chain):
    """Proves that a job at a provider further down the chain is found by its name."""
    assert _provider(TYPE, "fal").name == "fal"
    chain.script[CREATE] = [Reply(401)]
    chain.script["GET /out.png"] = [Reply(503), Reply(body=png())]
    with remote_work():
        task = begin()
        wait_until(lambda: ended_first(task), 30)
    assert not stopping.is_set()
    with remote_work():
        assert ended(task).result["provider"] == "fal"


def ended_first(task):
    task.refresh_from_db()
    run.run_next(TYPE)
    return job_of(task).provider == "fal"


def test_a_submit_must_fit_every_provider(api, settings):
    """Proves that a 422 names the provider further down that cannot make it."""
    settings.GENERATION_PROVIDERS = {TYPE: [STILL, "tests.support.painter.Painter"]}
    wrong = {**IMAGE, "task_data": {"prompt": "x", "image_params": {"resolution": "4000x300"}}}
    (problem,) = post(api, wrong).json()["errors"]
    assert problem["pointer"] == "/task_data/image_params/resolution"
    assert "painter" in problem["message"]
    named = {**wrong["task_data"], "provider": "still"}
    assert post(api, {**wrong, "task_data": named}).status_code == 201


def test_check_looks_at_every_provider_of_a_chain(settings):
    """Proves that a missing key further down, and a name that comes twice, are found."""
    settings.FAL_API_KEY = ""
    settings.GENERATION_PROVIDERS = {TYPE: [STILL, {"provider": "fal", "options": OPTIONS}]}
    assert any("FAL_API_KEY" in each.msg for each in run_checks(tags=["tasks"]))
    settings.GENERATION_PROVIDERS = {TYPE: [STILL, STILL]}
    assert any("once" in each.msg for each in run_checks(tags=["tasks"]))
