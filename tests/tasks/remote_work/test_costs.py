"""What is booked for remote work, however it ends? On the protocol of Replicate."""

import pytest
from django.db.models.functions import Now

from tasks_app.models import RemoteJob
from tasks_app.state import costs, lifecycle
from tasks_app.state.submit import retry
from tests.support.fake_provider import Reply, png
from tests.support.remote_work import (
    CANCEL,
    CREATE,
    GET,
    MODEL,
    begin,
    ended,
    job_of,
    remote_work,
    use,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

RUNNING = {"status": "processing"}


@pytest.fixture(autouse=True)
def price(settings):
    settings.GENERATION_PRICES = {MODEL: {"unit": "picture", "amount": "0.10", "currency": "USD"}}


def done(fake, pictures=1):
    return {"status": "succeeded", "output": [f"{fake.url}/out.png"] * pictures}


def test_the_receipt_says_what_was_made_and_not_what_was_asked_for(fake):
    """Proves that the cost comes from the files that were fetched."""
    use()
    fake.script[GET] = [done(fake, pictures=3)]
    with remote_work():
        assert ended(begin()).result["cost"] == {"amount": "0.30", "currency": "USD"}


def test_what_was_paid_late_costs_its_retry_nothing(fake):
    """Proves that a retry that takes over a late result says that it cost 0."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        task = ended(begin(timeout_seconds=1))
        wait_until(lambda: fake.count(CANCEL), 30)
        fake.script[GET] = [done(fake)]
        RemoteJob.objects.filter(task=task).update(next_look_at=Now())
        wait_until(lambda: job_of(task).outcome == "late", 30)
        again = ended(retry(task).task)
    assert (again.result["cost"]["amount"], fake.count(CREATE)) == ("0.00", 1)


def booked(task):
    return [(str(cost.amount), cost.basis) for cost in costs.costs_of(task)]


def test_finished_work_is_booked_once_under_its_job(fake):
    """Proves that the ledger has the job of a completed task, with what its receipt says."""
    use()
    with remote_work():
        task = ended(begin("film"))
    (cost,) = costs.costs_of(task)
    assert (cost.id, cost.basis, cost.project_id) == (job_of(task).id, "measured", "film")
    assert (cost.provider, cost.model, cost.currency) == ("replicate", MODEL, "USD")


def test_an_unclear_submit_is_booked_as_paid(fake):
    """Proves that a submit whose answer was cut off is in the sum, told apart, beside the next."""
    use()
    good = fake.script[CREATE]
    fake.script[CREATE] = [Reply(headers={"content-length": "500"}), *good]
    with remote_work():
        task = ended(begin())
    assert booked(task) == [("0.100000", "unclear"), ("0.100000", "measured")]


@pytest.mark.parametrize(("status", "basis"), [(401, []), (422, []), (500, []), (429, [])])
def test_what_was_refused_was_not_paid(fake, status, basis):
    """Proves that only a refusal that leaves no doubt is free."""
    use()
    fake.script[CREATE] = [Reply(status, headers={"retry-after": "1"})]
    with remote_work():
        task = ended(begin(timeout_seconds=3 if status == 429 else None))
    assert [each for _, each in booked(task)] == basis


def test_work_that_the_provider_failed_was_not_paid(fake):
    """Proves that a model's own failure costs nothing, and a useless result is paid for."""
    use()
    fake.script[GET] = [{"status": "failed", "error": "no memory"}, done(fake)]
    fake.script["GET /out.png"] = [Reply(body=b"no picture"), Reply(body=png())]
    with remote_work():
        task = ended(begin())
    assert booked(task)[:1] == [("0.100000", "estimated")]
    assert RemoteJob.objects.filter(task=task, outcome="failed").count() >= 2


def test_a_cancelled_job_is_unclear_until_somebody_looks(fake):
    """Proves that running work which was stopped is booked as perhaps paid; unsent work is not."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        lifecycle.cancel(task.id)
        wait_until(lambda: job_of(task).state == "ended", 30)
    unsent = begin()
    lifecycle.cancel(unsent.id)
    assert (booked(task), booked(unsent)) == ([("0.100000", "unclear")], [])
