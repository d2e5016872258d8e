"""Where may a retry policy come from, and is what is simulated what the engine does?"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from tests.support import factories
from tests.support.receiver import Receiver
from tests.support.running import attempts_of, publish, status_of
from tests.support.waiting import wait_until
from webhooks_app.checks import check_settings
from webhooks_app.conf import load
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.models import WebhookMessage
from webhooks_app.outbox import Claimed, outcome_of
from webhooks_app.retry import (
    ERROR_CODES,
    AttemptResult,
    Dead,
    Policy,
    RetryAt,
    decide,
    resolve_policy,
    simulate,
    status_error_code,
)

SUCCESSES = frozenset({200, 201, 202, 204})
DURABLE = [5, 30, 120, 600, 3_600, 10_800, 28_800, 57_600, 86_400]


def result_of(status: int, retry_after: float | None = None, seconds: float = 0.0) -> AttemptResult:
    """Return what an attempt that was answered so came to."""
    return AttemptResult(
        status=status,
        error_code=status_error_code(status, SUCCESSES),
        retry_after=retry_after,
        duration_ms=1000 * seconds,
    )


# -- where a policy comes from --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_value", "waits"),
    [
        ("standard", [1, 2, 4]),
        ("durable", DURABLE),
        ("1,2.5", [1, 2.5]),
        ("[3, 4]", [3, 4]),
        ("[]", []),
        ([0.5, 1], [0.5, 1]),
    ],
)
def test_settings_take_a_name_or_waits_as_an_environment_gives_them(
    settings: Any, given_value: Any, waits: list[float]
) -> None:
    """WEBHOOK_RETRY_POLICY may be a name or any list, and is the policy of who names none."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "RETRY_POLICY": given_value}
    assert list(resolve_policy(None).waits) == waits


@pytest.mark.parametrize("value", ["absent", "1,two", 5, [1, "x"], None])
def test_unusable_default_policy_is_refused_at_start(value: Any) -> None:
    """A default policy that is none is an error of the settings, not of the first delivery."""
    with pytest.raises(ImproperlyConfigured, match="RETRY_POLICY"):
        load({"RETRY_POLICY": value})


def test_waits_out_of_range_are_found_by_the_checks(settings: Any) -> None:
    """A default policy with a wait of two days is what `manage.py check` reports."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "RETRY_POLICY": "1,172800"}
    assert [(e.id, "RETRY_POLICY" in e.msg) for e in check_settings(None)] == [
        ("webhooks.E006", True)
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("of_task", "of_key", "waits"),
    [
        (None, None, [1, 2, 4]),
        ("durable", None, DURABLE),
        (None, [0.5, 7], [0.5, 7]),
        ([9], "durable", [9]),
        ([], "durable", []),
    ],
)
def test_task_goes_before_its_key_and_the_key_before_the_settings(
    of_task: Any, of_key: Any, waits: list[float]
) -> None:
    """The policy of a task's message is the task's own, else its key's, else the default."""
    from tasks_app.state import lifecycle
    from tasks_app.state.submit import Submit, submit

    key, _ = factories.make_api_key(retry_policy=of_key)
    request = Submit(
        project_id=factories.PROJECT,
        task_type="image_generation",
        task_data={"prompt": "A lighthouse"},
        callback_url=factories.URL,
        retry_policy=of_task,
        api_key=key,
    )
    lifecycle.cancel(submit(request).task.id)
    message = WebhookMessage.objects.get()
    assert message.policy == waits
    assert message.jitter == (0.2 if waits == DURABLE else 0.0)


@pytest.mark.django_db
def test_policy_that_is_in_the_settings_no_more_never_keeps_a_task_from_ending() -> None:
    """What was accepted under a name that an operator removed ends with the default policy."""
    publish(factories.URL, policy="removed")
    assert WebhookMessage.objects.get().policy == [1, 2, 4]


# -- simulated and real ---------------------------------------------------------------------------

_policies = st.builds(
    Policy,
    st.lists(st.one_of(st.integers(0, 86_400), st.floats(0, 86_400)), max_size=20).map(tuple),
    st.sampled_from([0.0, 0.2, 1.0]),
)
_answers = st.lists(
    st.one_of(
        st.builds(
            result_of,
            st.sampled_from([200, 202, 301, 410, 429, 500, 503]),
            st.one_of(st.none(), st.floats(0, 1e9)),
            st.floats(0, 30),
        ),
        st.sampled_from(
            [
                AttemptResult(error_code=code)
                for code in ERROR_CODES.values()
                if code.is_sent and code.is_charged
            ]
        ),
    ),
    min_size=1,
    max_size=25,
)


def run_model(
    policy: Policy, answers: Sequence[AttemptResult], start: float, rng: random.Random
) -> list[tuple[int, float, str]]:
    """Return (attempt, time, state after it) as rows and engine would make them.

    The row is what `outcome_of` says and the record statement applies; nothing else is known
    from one attempt to the next, as after a restart of everything.
    """
    row: dict[str, Any] = {"status": "pending", "due": start, "retry_step": 0, "attempt_count": 0}
    seen = []
    while row["status"] == "pending":
        row["attempt_count"] += 1
        result = answers[min(row["attempt_count"], len(answers)) - 1]
        begun, ended = row["due"], row["due"] + result.duration_ms / 1000
        claimed = _claimed(policy, row["retry_step"], row["attempt_count"])
        own = Policy(tuple(claimed.waits), claimed.jitter)
        decision = decide(result, policy=own, step=claimed.retry_step, now=ended, rng=rng)
        written = outcome_of(claimed, uuid.uuid4(), {}, result, decision)
        row |= {"status": written.status, "retry_step": written.retry_step}
        row["due"] = ended + (written.wait or 0.0)
        seen.append((row["attempt_count"], begun, row["status"]))
    return seen


def _claimed(policy: Policy, step: int, number: int) -> Claimed:
    values = dict.fromkeys(Claimed._fields)
    values |= {"waits": policy.waits, "jitter": policy.jitter, "retry_step": step}
    values |= {"attempt_number": number, "event_created_at": timezone.now()}
    return Claimed(**values)  # type: ignore[arg-type]


@given(_policies, _answers, st.integers(0, 2**32), st.floats(0, 1e9))
def test_simulated_retries_are_the_engines(
    policy: Policy, answers: list[AttemptResult], seed: int, start: float
) -> None:
    """Over any policy and answers, the simulation is what the engine's own rows would lead to."""
    rows = run_model(policy, answers, start, random.Random(seed))
    simulated = simulate(policy, answers, start, random.Random(seed))
    assert len(rows) == len(simulated) <= len(policy.waits) + 1
    for (number, at, status), attempt in zip(rows, simulated, strict=True):
        assert number == attempt.attempt_number
        assert math.isclose(at, attempt.at, rel_tol=1e-9, abs_tol=1e-6)
        is_over = not isinstance(attempt.decision, RetryAt)
        is_dead = isinstance(attempt.decision, Dead)
        assert status == ("dead" if is_dead else "delivered" if is_over else "pending")


@pytest.mark.django_db(transaction=True)
def test_real_engine_keeps_the_simulated_times(engine: EngineThread, receiver: Receiver) -> None:
    """Six attempts over real sockets come when `simulate` says, none early, none much later."""
    statuses = [500, 503, 429, 302, 404, 202]
    waits = [0.1, 0.4, 0, 0.3, 0.2]
    receiver.answer(*statuses)
    event = publish(receiver.url, policy=waits)
    wait_until(lambda: status_of(event) == "delivered")
    expected = simulate(
        Policy(tuple(waits)), [result_of(s) for s in statuses], 0.0, random.Random(0)
    )
    begun = [attempt.started_at for attempt in attempts_of(event)]
    real = [(moment - begun[0]).total_seconds() for moment in begun]
    assert len(real) == len(expected) == 6
    for attempt, at in zip(expected, real, strict=True):
        assert attempt.at - 0.005 <= at <= attempt.at + 1.5
