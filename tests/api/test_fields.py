"""Does every field of every request refuse the same fault in the same way?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from tasks_app.api import queries, task_requests
from webhooks_app.api import credentials, endpoints, feed, replays, secrets
from webhooks_app.api.fields import Number, Text, Whole
from webhooks_app.api.problems import field_problems
from webhooks_app.api.read import StrictObject

#: So that all forms of requests are loaded, whichever test runs first.
MODULES = (queries, task_requests, credentials, endpoints, feed, replays, secrets)


def _forms(form: type[StrictObject] = StrictObject) -> Iterator[type[StrictObject]]:
    for below in form.__subclasses__():
        if below.__module__.startswith(("webhooks_app.", "tasks_app.")):
            yield below
            yield from _forms(below)


FORMS = sorted(set(_forms()), key=lambda form: form.__name__)


def refusal(field: Any, value: Any) -> tuple[str, str]:
    """Return the code and the words with which a field refuses a value."""
    with pytest.raises(ValidationError) as refused:
        field.run_validation(value)
    (problem,) = field_problems(refused.value.detail)
    return problem["code"], problem["message"]


@pytest.mark.parametrize("form", FORMS)
def test_null_is_a_value_of_the_wrong_type(form: type[StrictObject]) -> None:
    """A field that does not take null says what it takes, as for every other wrong type."""
    for name, field in form().fields.items():
        if not field.allow_null and name != "cursor":
            code, message = refusal(field, None)
            assert (code, message.startswith("Must be ")) == ("bad_type", True), (name, message)


@pytest.mark.parametrize(("field", "value"), [(Number(0.5, 2), 3), (Whole(0, 2**32 - 1), -1)])
def test_a_number_out_of_bounds_hears_both_of_them(field: Number, value: int) -> None:
    """The message names the least and the most in full, never rounded."""
    message = f"Must be from {field.least} to {field.most}."
    assert refusal(field, value) == ("out_of_range", message)


@pytest.mark.parametrize("length", [11, 1_000])
def test_a_text_hears_its_own_limit(length: int) -> None:
    """However long a text is, it is told the limit, not the one that guards its normalisation."""
    assert refusal(Text(max_length=10), "x" * length) == ("too_long", "At most 10 characters.")
