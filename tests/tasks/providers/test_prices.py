"""What does work cost by a price? Pure figures, to the last millionth."""

from dataclasses import dataclass
from decimal import Decimal

import pytest
from django.core.checks import run_checks

from tasks_app.providers import prices
from tasks_app.providers.prices import Money, amount_text

VIDEO, IMAGE, AUDIO = "video_generation", "image_generation", "audio_generation"


@dataclass
class File:
    role: str
    duration: float | None = None


@pytest.fixture(autouse=True)
def some_prices(settings):
    settings.GENERATION_PRICES = {
        unit: {"unit": unit, "amount": "0.10", "currency": "USD"} for unit in prices.UNITS
    }


@pytest.mark.parametrize(
    ("unit", "files", "amount"),
    [
        ("second", [File("thumbnail", 99), File("primary", 7.1)], "0.71"),
        ("second", [File("primary", 0.1), File("primary_2", 5.0)], "0.01"),
        ("second", [File("primary", 7.000001)], "0.7000001"),
        ("second", [File("primary")], None),
        ("picture", [File("primary"), File("primary_2"), File("thumbnail")], "0.20"),
        ("run", [File("primary"), File("primary_2")], "0.10"),
        ("unknown", [File("primary", 7.1)], None),
    ],
)
def test_cost_is_that_of_what_was_measured(unit, files, amount):
    """Proves that only main files count, and that seconds are multiplied as decimals."""
    cost = prices.measured(unit, files)
    wanted = None if amount is None else prices.rounded(Decimal(amount))
    assert (None if cost is None else cost.amount) == wanted


@pytest.mark.parametrize(
    ("unit", "task_type", "task_data", "amount"),
    [
        ("second", VIDEO, {"video_params": {"duration_s": 12.5}}, "1.25"),
        ("second", VIDEO, {"video_params": None}, "0.70"),
        ("second", AUDIO, {"audio_params": {"duration_s": 20}}, "2.00"),
        ("second", AUDIO, {"audio_data": {"text": "a" * 150}}, "1.00"),
        ("second", AUDIO, {}, "1.00"),
        ("second", IMAGE, {}, None),
        ("picture", IMAGE, {"image_params": {"count": 3}}, "0.30"),
        ("picture", IMAGE, {}, "0.10"),
        ("run", VIDEO, {}, "0.10"),
    ],
)
def test_expected_cost_is_that_of_what_is_asked_for(unit, task_type, task_data, amount):
    """Proves that an estimate takes length and number from the task, else their defaults."""
    cost = prices.expected(unit, task_type, task_data)
    assert (cost and cost.told()) == (amount and {"amount": amount, "currency": "USD"})


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0.00"), ("0.1", "0.10"), ("1234.5600005", "1234.560001"), ("0.125", "0.125")],
)
def test_amounts_are_told_with_two_to_six_decimals(amount, text):
    """Proves that an amount is a plain decimal, rounded half up at the millionth."""
    assert amount_text(Decimal(amount)) == text
    assert Money(Decimal(amount), "EUR").told() == {"amount": text, "currency": "EUR"}


@pytest.mark.parametrize(
    "entry",
    [
        5,
        {"unit": "second", "amount": "0.10"},
        {"unit": "second", "amount": 0.1, "currency": "USD"},
        {"unit": "second", "amount": "-1", "currency": "USD"},
        {"unit": "second", "amount": "1e3", "currency": "USD"},
        {"unit": "hour", "amount": "1", "currency": "USD"},
        {"unit": "second", "amount": "1", "currency": "usd"},
        {"unit": "second", "amount": "1", "currency": "USD", "per": 1},
    ],
)
def test_check_finds_a_price_of_the_wrong_shape(settings, entry):
    """Proves that a wrong price is named by `manage.py check`, and a right one is not."""
    settings.GENERATION_PRICES = {"good": settings.GENERATION_PRICES["run"], "bad": entry}
    found = [each for each in run_checks(tags=["tasks"]) if each.id == "tasks.E005"]
    assert ["'bad'" in each.msg for each in found] == [True]
