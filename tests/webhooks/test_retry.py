"""What an answer means, and the exact schedule that follows from it."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks_app.retry import (
    AttemptResult,
    Dead,
    Delivered,
    Policy,
    RetryAt,
    Verdict,
    classify,
    decide,
    decide_interrupted,
    parse_retry_after,
    resolve_policy,
    simulate,
    status_error_code,
)

RNG = random.Random(1)
NOW = 1_700_000_000.0
SUCCESS = frozenset({200, 201, 202, 204})
STANDARD = Policy((1, 2, 4))


def answer(status=None, code=None, **fields):
    """An attempt's result with the error code that the transport gives to its status."""
    if code is None:
        code = status_error_code(status, SUCCESS)
    return AttemptResult(status=status, error_code=code, **fields)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_statuses_are_delivered(status):
    """Proves that the four success statuses end a message."""
    assert classify(answer(status)) is Verdict.DELIVERED
    assert decide(answer(status), policy=STANDARD, step=0, now=NOW, rng=RNG) == Delivered()


@pytest.mark.parametrize(
    "status", [100, 101, 203, 205, 206, 226, 299, 300, 304, 400, 401, 404, 409, 429, 500, 503, 999]
)
def test_every_other_status_is_retried(status):
    """Proves that no other answer is taken for success, nor for a reason to give up."""
    assert answer(status).error_code == "http_status"
    assert classify(answer(status)) is Verdict.RETRY


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_a_failure_of_its_own_kind(status):
    """Proves that a redirect is retried as redirect_refused."""
    assert answer(status).error_code == "redirect_refused"
    assert classify(answer(status)) is Verdict.RETRY


@pytest.mark.parametrize("code", ["dns", "connect", "tls", "timeout", "reset", "protocol"])
def test_network_failures_are_retried(code):
    """Proves that no fault of the network ends a message at once."""
    decision = decide(answer(code=code), policy=STANDARD, step=0, now=NOW, rng=RNG)
    assert decision == RetryAt(at=NOW + 1, delay=1, step=1)


@pytest.mark.parametrize("code", ["blocked_address", "invalid_url"])
def test_what_policy_forbids_is_dead_at_once(code):
    """Proves that a blocked address or invalid URL is never tried again."""
    decision = decide(answer(code=code), policy=STANDARD, step=0, now=NOW, rng=RNG)
    assert decision == Dead(code)


def test_gone_is_dead_at_once_and_names_the_endpoint():
    """Proves that 410 ends the message and asks to disable the endpoint."""
    decision = decide(answer(410), policy=STANDARD, step=0, now=NOW, rng=RNG)
    assert decision == Dead("gone", is_endpoint_gone=True)


def test_standard_policy_waits_exactly_one_two_four_seconds():
    """Proves the published schedule of a receiver that always fails."""
    attempts = simulate(resolve_policy("standard"), [answer(500)], NOW, RNG)
    assert [a.at - NOW for a in attempts] == [0, 1, 3, 7]
    assert attempts[-1].decision == Dead("retries_exhausted")


def test_empty_policy_gives_one_attempt():
    """Proves that a list of no waits means no retry."""
    assert len(simulate(resolve_policy([]), [answer(500)], NOW, RNG)) == 1


@pytest.mark.parametrize(
    ("status", "asked", "delay"),
    [
        (429, 10.0, 10.0),
        (503, 10.0, 10.0),
        (503, 0.0, 1.0),  # never sooner than the policy
        (429, 1e9, 86_400.0),
        (500, 10.0, 1.0),  # only 429 and 503 may ask
        (429, None, 1.0),
    ],
)
def test_retry_after_is_honoured_between_the_policy_and_a_day(status, asked, delay):
    """Proves the clamp of Retry-After and the statuses that it counts for."""
    result = answer(status, retry_after=asked)
    decision = decide(result, policy=STANDARD, step=0, now=NOW, rng=RNG)
    assert (decision.delay, decision.step) == (delay, 1)


@pytest.mark.parametrize(("asked", "hold"), [(5.0, 5.0), (60.0, 60.0), (3600.0, 60.0)])
def test_retry_after_holds_the_destination_a_minute_at_most(asked, hold):
    """Proves that one answer cannot hold back a whole origin for longer than 60 s."""
    decision = decide(answer(429, retry_after=asked), policy=STANDARD, step=0, now=NOW, rng=RNG)
    assert decision.hold_seconds == hold
    last = decide(answer(429, retry_after=asked), policy=STANDARD, step=3, now=NOW, rng=RNG)
    assert last == Dead("retries_exhausted", hold_seconds=hold)


def test_interruption_uses_up_no_retry_until_the_fifth_in_a_row():
    """Proves that a dying process costs nothing, and a message that kills it comes to an end."""
    for in_a_row in (1, 2, 3, 4, 6):
        decision = decide_interrupted(in_a_row, policy=STANDARD, step=1, now=NOW, rng=RNG)
        assert decision == RetryAt(at=NOW, delay=0, step=1)
    assert decide_interrupted(5, policy=STANDARD, step=1, now=NOW, rng=RNG).step == 2
    assert decide_interrupted(5, policy=STANDARD, step=3, now=NOW, rng=RNG) == Dead(
        "retries_exhausted"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1000000000", 1e9),
        (format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90), True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW, UTC) - timedelta(days=1), True), 0.0),
        ("Tuesday, 14-Nov-23 22:14:50 GMT", 90.0),  # RFC 850
        ("Tue Nov 14 22:14:50 2023", 90.0),  # asctime, in UTC by definition
        ("Wed Nov  1 22:14:50 2023", 0.0),
        ("Tuesday, 14-Nov-73 22:13:20 GMT", 50 * 365.25 * 86_400 + 43_200),
        ("Wednesday, 14-Nov-74 22:13:20 GMT", 0.0),  # over 50 years ahead: it means 1974
        ("-5", None),
        ("1.5", None),
        ("1e9", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 65, None),
        ("Wed, 21 Oct 2026 07:28:00", None),
    ],
)
def test_retry_after_header_is_read_strictly(text, seconds):
    """Proves what counts as a Retry-After and that garbage is the same as none."""
    assert parse_retry_after(text, NOW) == seconds


def test_policy_may_be_a_name_a_list_or_the_default(settings):
    """Proves the three ways to name a policy."""
    assert resolve_policy([0, 86_400]).waits == (0, 86_400)
    assert resolve_policy(None) == resolve_policy("standard") == STANDARD
    assert resolve_policy("durable").jitter == 0.2
    assert len(resolve_policy("durable").waits) == 9
    own = {"x": {"waits": [3], "jitter": 0.5}}
    settings.WEBHOOKS = {**settings.WEBHOOKS, "POLICIES": own}
    assert resolve_policy("x") == Policy((3,), 0.5)


@pytest.mark.parametrize(
    "value", ["durabel", [-1], [86_401], [0] * 21, [float("nan")], [True], ["1"]]
)
def test_bad_policy_is_refused(value):
    """Proves that a policy outside its bounds never reaches a message."""
    with pytest.raises(ValueError):
        resolve_policy(value)


answers = st.lists(
    st.one_of(
        st.sampled_from([200, 204, 301, 400, 410, 429, 500, 503]).flatmap(
            lambda status: st.builds(
                answer,
                st.just(status),
                retry_after=st.none() | st.floats(0, 2e5),
                duration_ms=st.floats(0, 30_000),
            )
        ),
        st.sampled_from(["dns", "timeout", "reset", "blocked_address"]).map(
            lambda code: answer(code=code)
        ),
    ),
    min_size=1,
    max_size=8,
)
policies = st.builds(
    Policy,
    st.lists(st.floats(0, 86_400), max_size=20).map(tuple),
    st.sampled_from([0.0, 0.2, 1.0]),
)


@given(policies, answers, st.randoms(use_true_random=False))
def test_simulated_schedule_agrees_with_the_policy(policy, given_answers, rng):
    """Proves, from the waits alone, when each simulated attempt starts and why the last ends."""
    attempts = simulate(policy, given_answers, NOW, rng)
    assert 1 <= len(attempts) <= len(policy.waits) + 1
    assert [a.attempt_number for a in attempts] == list(range(1, len(attempts) + 1))
    for step, (one, following) in enumerate(pairwise(attempts)):
        gap = following.at - one.at - one.result.duration_ms / 1000
        low = policy.waits[step] * (1 - policy.jitter)
        high = policy.waits[step] * (1 + policy.jitter)
        if one.result.status in (429, 503) and one.result.retry_after is not None:
            asked = min(one.result.retry_after, 86_400)
            low, high = max(low, asked), max(high, asked)
        assert low - 1e-3 <= gap <= high + 1e-3
        assert one.result.error_code not in ("", "blocked_address")
        assert one.result.status != 410
    last = attempts[-1]
    is_final = last.result.error_code == "blocked_address" or last.result.status == 410
    if last.result.error_code == "":
        assert last.decision == Delivered()
    else:
        assert isinstance(last.decision, Dead)
        assert is_final or len(attempts) == len(policy.waits) + 1
