"""What is a client told of costs, and when is a task refused for its price?"""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app.models import Cost, Project, Task
from tasks_app.providers.prices import Money
from tasks_app.state import costs, projects
from tasks_app.state.costs import BudgetExhausted
from tasks_app.state.submit import Submit
from tasks_app.state.submit import submit as submit_task
from tests.api.test_submit import IMAGE, SEED_REQUEST, changed, submit
from tests.support import factories
from webhooks_app.models import OperatorAction

pytestmark = pytest.mark.django_db

PRICES = {"painter-1": {"unit": "picture", "amount": "0.10", "currency": "USD"}}


def test_a_submit_is_answered_with_its_price(api, settings):
    """Proves that the 201 has an estimate exactly where a price is configured."""
    assert "estimated_cost" not in submit(api, IMAGE).json()
    settings.GENERATION_PRICES = PRICES
    answer = submit(api, changed(IMAGE, "task_data/image_params/count", 3)).json()
    assert answer["estimated_cost"] == {"amount": "0.30", "currency": "USD"}
    settings.GENERATION_PRICES = {"painter-1": {**PRICES["painter-1"], "unit": "second"}}
    answer = submit(api, changed(SEED_REQUEST, "task_data/video_params/duration_s", 2.5)).json()
    assert answer["estimated_cost"]["amount"] == "0.25"


def set_budget(project, amount, currency="USD"):
    budget = Money(Decimal(amount), currency)
    projects.change(project, budget=budget, asset_quota_bytes=None, actor="o", reason="r")


def book(project, amount, *, basis="measured", days=0, **more):
    at = timezone.now() - timedelta(days=days)
    given = {"task_id": uuid.uuid4(), "provider": "painter", "model": "m", "currency": "USD"}
    Cost.objects.create(
        project_id=project, amount=Decimal(amount), basis=basis, booked_at=at, **{**given, **more}
    )


def test_a_budget_refuses_what_it_has_no_room_for(api, settings):
    """Proves that booked and reserved money count, and that the 402 says what is left."""
    settings.GENERATION_PRICES = PRICES
    set_budget("p", "0.35")
    book("p", "0.10")
    book("p", "5.00", days=40)  # another month's
    book("other", "5.00")
    assert [submit(api, IMAGE).status_code for _ in range(3)] == [201, 201, 402]
    answer = submit(api, IMAGE)
    problem = answer.json()
    assert (problem["code"], answer["content-type"]) == (
        "budget_exhausted",
        "application/problem+json",
    )
    assert problem["left"] == {"amount": "0.05", "currency": "USD"}
    assert problem["estimated_cost"] == {"amount": "0.10", "currency": "USD"}
    assert problem["budget_of"] == "project"
    assert submit(api, {**IMAGE, "project_id": "other"}).status_code == 201
    assert Task.objects.filter(project_id="p").count() == 2


def test_a_tasks_end_frees_what_it_had_reserved(api, settings):
    """Proves that a cancelled task gives its part of the budget back."""
    settings.GENERATION_PRICES = PRICES
    set_budget("p", "0.10")
    first = submit(api, IMAGE).json()["task_id"]
    assert submit(api, IMAGE).status_code == 402
    api.delete(f"/api/v1/tasks/{first}")
    assert submit(api, IMAGE).status_code == 201


def test_a_keys_budget_is_its_own(api, api_key, settings):
    """Proves that a key's budget counts over all of its projects, and no other key's tasks."""
    settings.GENERATION_PRICES = PRICES
    prefix = api_key.partition(".")[0]
    limit = Money(Decimal("0.10"), "USD")
    assert projects.change_key_budget(prefix, limit, actor="o", reason="r")
    assert submit(api, IMAGE).status_code == 201
    answer = submit(api, {**IMAGE, "project_id": "other"})
    assert (answer.status_code, answer.json()["budget_of"]) == (402, "key")
    elsewhere = Client(headers={"x-api-key": factories.make_api_key()[1]})
    assert submit(elsewhere, IMAGE).status_code == 201


def test_another_currency_has_no_budget(api, settings):
    """Proves that a price in a currency that the budget does not name is refused."""
    settings.GENERATION_PRICES = {"painter-1": {**PRICES["painter-1"], "currency": "EUR"}}
    set_budget("p", "100")
    problem = submit(api, IMAGE).json()
    assert problem["left"] == {"amount": "0.00", "currency": "EUR"}


def test_a_repeated_submit_is_no_second_reservation(api, settings):
    """Proves that the same Idempotency-Key gets the same answer from an exhausted budget."""
    settings.GENERATION_PRICES = PRICES
    set_budget("p", "0.10")
    first, second = (submit(api, IMAGE, **{"idempotency-key": "k"}) for _ in range(2))
    assert (first.json(), second.status_code) == (second.json(), 201)


@pytest.mark.django_db(transaction=True)
def test_the_last_of_a_budget_is_taken_once(settings):
    """Proves that of many submits at the same moment only so many as there is room for succeed."""
    settings.GENERATION_PRICES = PRICES
    set_budget("p", "0.50")
    start = threading.Barrier(8)

    def one(number):
        try:
            start.wait()
            key = f"k{number}" if number % 2 else None
            asked = Submit("p", "image_generation", {}, idempotency_key=key, fingerprint="f")
            submit_task(asked)
            return True
        except BudgetExhausted:
            return False
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 5
    assert costs.of_project("p", Money(Decimal("0.50"), "USD")).left.amount == 0


def test_a_submit_without_a_price_asks_nothing_more(settings):
    """Proves that tasks without a price cost no statement for budgets, with a budget set."""
    set_budget("p", "0.10")
    with CaptureQueriesContext(connection) as seen:
        submit_task(Submit("p", "image_generation", {}))
    assert not [each for each in seen.captured_queries if "budget" in each["sql"]]
    assert not [each for each in seen.captured_queries if "SAVEPOINT" in each["sql"]]


def test_costs_of_a_month(api, settings):
    """Proves that a client sees its project's sums, what is unclear of them, and its budget."""
    settings.GENERATION_PRICES = PRICES
    set_budget("film", "10")
    book("film", "1.25")
    book("film", "0.75", basis="unclear")
    book("film", "3", currency="EUR", model="other")
    book("film", "99", days=40)
    book("elsewhere", "99")
    submit(api, {**IMAGE, "project_id": "film"})
    seen = api.get("/api/v1/projects/film/costs").json()
    dollars = {"currency": "USD", "amount": "2.00", "unclear_amount": "0.75", "jobs": 2}
    euros = {"currency": "EUR", "amount": "3.00", "unclear_amount": "0.00", "jobs": 1}
    assert seen["totals"] == [euros, dollars]
    assert {"provider": "painter", "model": "m", **dollars} in seen["by_model"]
    assert seen["budget"] == {
        **{"amount": "10.00", "currency": "USD"},
        **{"spent": "2.00", "reserved": "0.10", "left": "7.90"},
    }
    before = (timezone.now() - timedelta(days=40)).strftime("%Y-%m")
    old = api.get(f"/api/v1/projects/film/costs?month={before}").json()
    assert (old["totals"][0]["amount"], old["budget"]) == ("99.00", None)
    assert api.get("/api/v1/projects/film/costs?month=2026-13").status_code == 422


def test_costs_of_others_are_not_found(db):
    """Proves that a key bound to one project learns nothing of another's money."""
    bound = Client(headers={"x-api-key": factories.make_api_key(project_id="mine")[1]})
    assert bound.get("/api/v1/projects/mine/costs").status_code == 200
    assert bound.get("/api/v1/projects/film/costs").status_code == 404


def test_the_command_sets_and_shows(db):
    """Proves that an operator sets budget and quota, sees where they stand, and is on record."""
    book("film", "0.75", basis="unclear")
    out = StringIO()
    call_command("project", "film", budget="2.5 USD", asset_quota="1000", stdout=out, reason="ok")
    assert "0.75 USD  1 jobs  painter m, of it 0.75 unclear" in out.getvalue()
    assert "2.50 USD a month: 0.75 spent, 0.00 reserved, 1.75 left" in out.getvalue()
    noted = OperatorAction.objects.get(action="project.change")
    assert (noted.reason, noted.scope) == ("ok", "film")
    assert assets_quota("film") == 1000
    call_command("project", "film", budget="none", asset_quota="none", stdout=out, reason="ok")
    assert not Project.objects.exists()
    with pytest.raises(CommandError):
        call_command("project", "film", budget="2.5", stdout=out)


def assets_quota(project):
    return projects.settings_of(project)[1]


def test_the_admin_shows_the_ledger_and_sets_a_budget(admin_client):
    """Proves that an operator sees what is unclear, and changes a project's budget there."""
    book("film", "0.75", basis="unclear")
    page = admin_client.get("/admin/tasks_app/cost/").content.decode()
    assert "0.75 USD" in page
    assert "Unclear" in page
    given = {"budget_amount": "2.5", "budget_currency": "USD", "reason": "agreed"}
    answer = admin_client.post("/admin/tasks_app/project/add/", {"id": "film", **given})
    assert answer.status_code == 302, answer.content
    page = admin_client.get("/admin/tasks_app/project/").content.decode()
    assert "2.50 USD" in page
    assert "1.75" in page
    wrong = {**given, "budget_currency": "usd"}
    answer = admin_client.post("/admin/tasks_app/project/film/change/", wrong)
    assert "three capital letters" in answer.content.decode()
    answer = admin_client.post("/admin/tasks_app/project/film/change/", {**given, "reason": "more"})
    assert answer.status_code == 302
    assert OperatorAction.objects.filter(action="project.change").count() == 2
