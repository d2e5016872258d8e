"""The pace of one destination: window, breaker, hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks_app.delivery.pace import Pacer, PacerLimits, ResultKind, result_kind
from webhooks_app.models import BreakerState
from webhooks_app.retry import AttemptResult

LIMITS = PacerLimits(
    start_window=4,
    max_window=20,
    breaker_threshold=10,
    cooldown_seconds=30,
    cooldown_max_seconds=100,
    hold_max_seconds=60,
)
FAST, SLOW = ResultKind.FAST, ResultKind.SLOW
OVERLOADED, FAILED, NEUTRAL = ResultKind.OVERLOADED, ResultKind.FAILED, ResultKind.NEUTRAL


def run(pacer, message, kind, now=0.0):
    """One request from start to end."""
    pacer.started(message)
    pacer.finished(message, kind, now)


def opened(now=0.0):
    """A pacer whose breaker has just opened at ``now``."""
    pacer = Pacer(LIMITS)
    for n in range(10):
        run(pacer, f"m{n}", FAILED, now)
    return pacer


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (AttemptResult(200, duration_ms=50), FAST),
        (AttemptResult(200, duration_ms=5000), SLOW),
        (AttemptResult(429, "http_status"), OVERLOADED),
        (AttemptResult(503, "http_status"), OVERLOADED),
        (AttemptResult(error_code="timeout"), OVERLOADED),
        (AttemptResult(500, "http_status"), FAILED),
        (AttemptResult(302, "redirect_refused"), FAILED),
        (AttemptResult(error_code="connect"), FAILED),
        (AttemptResult(error_code="blocked_address"), NEUTRAL),
        (AttemptResult(error_code="proxy"), NEUTRAL),
    ],
)
def test_result_says_what_it_means_for_the_destination(result, kind):
    """Proves the mapping from results to kinds."""
    assert result_kind(result) is kind


def test_window_starts_at_four_and_grows_to_twenty_while_fast():
    """Proves the start, additive growth and the limit of the window."""
    pacer = Pacer(LIMITS)
    assert pacer.seats(0) == 4
    for n in range(5):
        run(pacer, f"m{n}", FAST)
    assert pacer.window == 5
    for n in range(500):
        run(pacer, f"m{n}", FAST)
    assert pacer.window == pacer.seats(0) == 20


def test_slow_answers_do_not_grow_the_window():
    """Proves that a receiver at its limit does not get more requests."""
    pacer = Pacer(LIMITS)
    for n in range(100):
        run(pacer, f"m{n}", SLOW)
    assert pacer.window == 4


def test_overload_halves_the_window_once_per_burst():
    """Proves that answers to requests under way together count as one overload."""
    pacer = Pacer(LIMITS)
    for n in range(500):
        run(pacer, f"m{n}", FAST)
    for n in range(8):
        pacer.started(f"burst{n}")
    for n in range(8):
        pacer.finished(f"burst{n}", OVERLOADED, 0)
    assert pacer.window == 10
    for _ in range(9):
        run(pacer, "one message", OVERLOADED)
    assert pacer.window == 1
    assert pacer.seats(0) == 1


def test_seats_are_what_the_window_leaves():
    """Proves that requests in flight take seats and give them back."""
    pacer = Pacer(LIMITS)
    pacer.started("a")
    pacer.started("b")
    assert (pacer.seats(0), pacer.in_flight) == (2, 2)
    pacer.finished("a", NEUTRAL, 0)
    assert pacer.seats(0) == 3


def test_ten_distinct_messages_in_a_row_open_the_breaker():
    """Proves the threshold, and that one success in between resets the count."""
    pacer = Pacer(LIMITS)
    for n in range(9):
        run(pacer, f"m{n}", FAILED)
    run(pacer, "good", SLOW)
    for n in range(9):
        run(pacer, f"n{n}", FAILED)
    assert pacer.state is BreakerState.CLOSED
    run(pacer, "tenth", FAILED, now=5)
    assert pacer.state == "open"
    assert (pacer.seats(5), pacer.held_until) == (0, 35)


def test_one_messages_own_retries_never_open_the_breaker():
    """Proves that a single failing message keeps its schedule."""
    pacer = Pacer(LIMITS)
    for _ in range(100):
        run(pacer, "the only one", FAILED)
    assert pacer.state is BreakerState.CLOSED
    assert pacer.seats(0) == 4


def test_neutral_results_say_nothing():
    """Proves that refusals of our own policy do not count against a destination."""
    pacer = Pacer(LIMITS)
    for n in range(100):
        run(pacer, f"m{n}", NEUTRAL)
    assert pacer.is_idle


def test_half_open_breaker_lets_a_single_probe_through():
    """Proves the cool-down, the one probe, and that its success closes the breaker."""
    pacer = opened()
    assert pacer.seats(29.9) == 0
    assert (pacer.seats(30), pacer.state) == (1, "half_open")
    pacer.started("probe")
    assert pacer.seats(30) == 0
    pacer.finished("probe", FAST, 31)
    assert (pacer.state, pacer.seats(31)) == ("closed", 4)
    assert pacer.is_idle


def test_failed_probe_doubles_the_cooldown_up_to_its_limit():
    """Proves the growing waits, and that the next probe is another message."""
    pacer, now = opened(), 30.0
    for cooldown in (60, 100, 100):
        assert pacer.seats(now) == 1
        run(pacer, f"probe{cooldown}", FAILED, now)
        assert pacer.held_until == now + cooldown
        now += cooldown
    assert pacer.seats(now) == 1


def test_interrupted_probe_makes_room_for_the_next():
    """Proves that a probe without a result does not leave the breaker stuck."""
    pacer = opened()
    pacer.seats(30)
    run(pacer, "probe", NEUTRAL, 30)
    assert pacer.seats(30) == 1


def test_late_success_of_an_older_request_closes_the_breaker():
    """Proves that any success closes the breaker, not only the probe's."""
    pacer = Pacer(LIMITS)
    pacer.started("old")
    for n in range(10):
        run(pacer, f"m{n}", FAILED)
    assert pacer.state == "open"
    pacer.finished("old", SLOW, 1)
    assert pacer.state == "closed"


def test_hold_is_capped_and_never_shortened():
    """Proves that Retry-After holds a destination for at most 60 s, and the longest one wins."""
    pacer = Pacer(LIMITS)
    assert pacer.hold(3600, 10) == 70
    assert pacer.hold(5, 10) == 70
    assert (pacer.seats(69.9), pacer.held_until) == (0, 70)
    assert pacer.seats(70) == 4
    assert pacer.held_until is None


def test_operator_resumes_at_once():
    """Proves that resume forgets hold and breaker."""
    pacer = opened()
    pacer.hold(60, 0)
    pacer.resume()
    assert (pacer.state, pacer.seats(0)) == ("closed", 4)


def test_operators_limit_takes_effect_at_once():
    """Proves that max_in_flight narrows a window that has grown."""
    pacer = Pacer(LIMITS)
    for n in range(500):
        run(pacer, f"m{n}", FAST)
    pacer.set_limits(PacerLimits.from_settings(max_in_flight=2))
    assert pacer.seats(0) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "end", "wait", "hold"]), st.integers(0, 30)),
        max_size=120,
    ),
    st.lists(st.sampled_from(list(ResultKind)), min_size=120, max_size=120),
)
def test_any_sequence_keeps_the_limits(steps, kinds):
    """Proves for any sequence: seats within bounds, no start beyond them, and never stuck."""
    pacer, now, flying = Pacer(LIMITS), 0.0, []
    for (step, number), kind in zip(steps, kinds, strict=False):
        seats = pacer.seats(now)
        assert 0 <= seats <= 20
        assert 1 <= pacer.window <= 20
        message = f"m{number}"
        if step == "start" and seats and message not in flying:
            pacer.started(message)
            flying.append(message)
        elif step == "end" and flying:
            pacer.finished(flying.pop(number % len(flying)), kind, now)
        elif step == "wait":
            now += number
        elif step == "hold":
            pacer.hold(number, now)
        assert pacer.in_flight == len(flying)
    for message in flying:
        pacer.finished(message, NEUTRAL, now)
    assert pacer.seats(now + 200) >= 1


def test_a_failing_proxy_lets_one_request_look_after_each_hold():
    """Proves that faults of a burst count once, that one seat is left, and what ends it."""
    pacer = Pacer(LIMITS)
    for n in range(4):
        pacer.started(f"m{n}")
    for n in range(4):
        assert pacer.proxy_failed(0.1) == 1
        pacer.finished(f"m{n}", NEUTRAL, 0.1)
        pacer.hold(1, 0.1)
    assert (pacer.seats(0.5), pacer.seats(1.2), pacer.failing) == (0, 1, 0)
    pacer.started("probe")
    assert pacer.seats(1.2) == 0
    assert pacer.proxy_failed(1.3) == 2
    pacer.finished("probe", NEUTRAL, 1.3)
    pacer.hold(2, 1.3)
    assert (pacer.seats(3.0), pacer.seats(3.4)) == (0, 1)
    run(pacer, "probe", FAILED, 3.5)  # the receiver failed: the proxy works
    assert (pacer.seats(3.6), pacer.proxy_failed(3.7)) == (4, 1)
