"""What does work cost? One price for each model, by the setting GENERATION_PRICES.

Amounts are decimals from the setting to the answer, never binary fractions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Protocol

from django.conf import settings

from tasks_app.task_types import TASK_TYPES

#: What a price is for: a second of the main file, each picture (or other main file), one run.
UNITS = ("second", "picture", "run")
#: Amounts are kept and told to a millionth.
MILLIONTH = Decimal("0.000001")
CURRENCY = re.compile(r"[A-Z]{3}")
AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
#: Seconds that are expected where a task does not say how long its result shall be.
EXPECTED_SECONDS = {"video_generation": Decimal(7), "audio_generation": Decimal(10)}
#: About how fast a voice speaks, in characters per second.
SPOKEN = 15


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one currency (ISO 4217)."""

    amount: Decimal
    currency: str

    def told(self) -> dict[str, str]:
        """Return it as JSON: the amount as text with two to six decimals."""
        return {"amount": amount_text(self.amount), "currency": self.currency}


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit of a model's work costs."""

    unit: str
    amount: Decimal
    currency: str

    def of(self, seconds: Decimal | None, pictures: int) -> Money | None:
        """Return the price of so much; None where it is by the second and nothing has a length."""
        count = {"second": seconds, "picture": Decimal(pictures), "run": Decimal(1)}[self.unit]
        return None if count is None else Money(rounded(self.amount * count), self.currency)


def rounded(amount: Decimal) -> Decimal:
    """Return an amount to a millionth."""
    return amount.quantize(MILLIONTH, ROUND_HALF_UP)


def amount_text(amount: Decimal) -> str:
    """Return an amount with two decimals, or up to six where they are needed."""
    whole, _, decimals = f"{rounded(amount):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def price_of(model: str) -> Price | None:
    """Return a model's price, None where none is configured.

    Raises:
        ValueError: the entry has a wrong shape; `manage.py check` reports it.
    """
    entry = settings.GENERATION_PRICES.get(model)
    return None if entry is None else _read(entry)


class MadeFile(Protocol):
    """What is read of a stored file: `MediaFile` has it."""

    role: str
    duration: float | None


def measured(model: str, files: Iterable[MadeFile]) -> Money | None:
    """Return the cost of what was made: by its main file's probed seconds, or its main files."""
    price = price_of(model)
    if price is None:
        return None
    main = sorted(
        (file for file in files if file.role.startswith("primary")), key=lambda file: file.role
    )
    duration = main[0].duration if main else None
    # The shortest text of a float is what the probe said: 7.1, not 7.0999999999999996447.
    return price.of(None if duration is None else Decimal(str(duration)), len(main))


def expected(model: str, task_type: str, task_data: Mapping[str, Any]) -> Money | None:
    """Return what a task will cost, from the length and the number that it asks for."""
    price = price_of(model)
    if price is None:
        return None
    asked: dict[str, Any] = {}
    for section in TASK_TYPES[task_type].sections:
        asked |= task_data.get(section) or {}
    return price.of(_seconds(task_type, asked), asked.get("count") or 1)


def as_told(cost: Any) -> Money | None:
    """Return a receipt's cost, None where there is none or a provider of others told nonsense."""
    try:
        return Money(rounded(Decimal(str(cost["amount"]))), currency_in(cost["currency"]))
    except (TypeError, KeyError, ValueError, ArithmeticError):
        return None


def nothing(model: str) -> dict[str, str] | None:
    """Return a cost of 0 in the currency of a model's price, for what is not paid again."""
    price = price_of(model)
    return Money(Decimal(0), price.currency).told() if price else None


def _seconds(task_type: str, asked: Mapping[str, Any]) -> Decimal | None:
    if asked.get("duration_s"):
        return Decimal(str(asked["duration_s"]))
    if asked.get("text"):
        return Decimal(max(1, round(len(asked["text"]) / SPOKEN)))
    return EXPECTED_SECONDS.get(task_type)


def problems() -> list[str]:
    """Return what is wrong with the setting, for `manage.py check`."""
    prices = settings.GENERATION_PRICES
    if not isinstance(prices, dict):
        return ["GENERATION_PRICES must be an object: model to price."]
    found = []
    for model, entry in prices.items():
        try:
            _read(entry)
        except ValueError as error:
            found.append(f"GENERATION_PRICES[{model!r}]: {error}")
    return found


def _read(entry: Any) -> Price:
    if not isinstance(entry, dict) or set(entry) != {"unit", "amount", "currency"}:
        raise ValueError('a price is {"unit": ..., "amount": ..., "currency": ...}.')
    unit, amount, currency = entry["unit"], entry["amount"], entry["currency"]
    if unit not in UNITS:
        raise ValueError(f"unit is one of {', '.join(UNITS)}.")
    return Price(unit, amount_in(amount), currency_in(currency))


def amount_in(text: Any) -> Decimal:
    """Return the amount in a text such as "0.10".

    Raises:
        ValueError: it is none, or a number of JSON, which would be a binary fraction.
    """
    if not isinstance(text, str) or not AMOUNT.fullmatch(text):
        raise ValueError('an amount is a text such as "0.10", with at most six decimals.')
    return Decimal(text)


def currency_in(text: Any) -> str:
    """Return the currency in a text.

    Raises:
        ValueError: it is not three capital letters.
    """
    if not isinstance(text, str) or not CURRENCY.fullmatch(text):
        raise ValueError('a currency is three capital letters, such as "USD".')
    return text
