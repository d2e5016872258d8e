"""What is booked for remote work, however it ends? On the protocol of Replicate."""

import pytest
from django.db.models.functions import Now

from tasks_app.models import RemoteJob
from tasks_app.state.submit import retry
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
