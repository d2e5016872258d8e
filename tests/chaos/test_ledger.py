"""Does the ledger notice a broken promise? Every invariant, on a history that violates it.

The chaos runs depend on this check, so each of its rules is shown a violation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.chaos import ledger
from tests.chaos.history import History, Post

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = b'{"status":"completed"}'


def post(attempt: int, status: int | None, *, timestamp: int = 1_700_000_000) -> Post:
    """Return a correctly signed request."""
    content = b".".join([b"msg_1", str(timestamp).encode(), BODY])
    signature = "v1," + base64.b64encode(hmac.digest(KEY, content, hashlib.sha256)).decode()
    return Post("/hook", "msg_1", attempt, timestamp, signature, BODY, status)


def kept() -> History:
    """One task whose webhook arrived at the second attempt; the promise was kept."""
    task = SimpleNamespace(
        id="task-1",
        status="completed",
        callback_url="http://receiver/hook",
        webhook_events=["task.completed"],
        has_result=True,
        finished_at=1,
        run_token=None,
        is_zombie=False,
    )
    event = SimpleNamespace(
        id=7,
        event_id="msg_1",
        subject="task-1",
        event_type="task.completed",
        sequence=1,
        is_terminal=True,
        body=BODY,
    )
    message = SimpleNamespace(
        id=9,
        event=7,
        url="http://receiver/hook",
        status="delivered",
        attempt_count=2,
        next_attempt_at=None,
        delivered_at=1,
        is_leased=False,
        is_zombie=False,
    )
    attempts = [
        SimpleNamespace(
            id=number,
            message=9,
            attempt_number=number,
            outcome=outcome,
            response_status=status,
            reconnected=False,
        )
        for number, outcome, status in ((1, "failed", 500), (2, "succeeded", 200))
    ]
    return History(
        accepted=["task-1"],
        posts=[post(1, 500), post(2, 200)],
        secret=SECRET,
        sinks={"log": "Webhook sent successfully"},
        canaries=["canary-secret"],
        resources={"descriptors": (40, 42)},
        tasks={"task-1": task},
        events={7: event},
        messages={9: message},
        deliveries=attempts,
        files=[SimpleNamespace(task="task-1", run_token="run-1")],
    )


def lose_the_task(history: History) -> None:
    history.accepted = [*history.accepted, "task-2"]


def leave_it_queued(history: History) -> None:
    history.tasks["task-1"].status = "queued"


def make_one_nobody_knows(history: History) -> None:
    history.accepted = []


def end_it_twice(history: History) -> None:
    history.events[8] = SimpleNamespace(**{**vars(history.events[7]), "id": 8})


def keep_files_of_two_runs(history: History) -> None:
    history.files.append(SimpleNamespace(task="task-1", run_token="run-2"))


def forget_the_message(history: History) -> None:
    history.messages.clear()
    history.deliveries.clear()


def announce_what_runs(history: History) -> None:
    history.tasks["task-1"].status = "processing"


def never_end_the_message(history: History) -> None:
    history.messages[9].status = "pending"


def forget_an_attempt(history: History) -> None:
    del history.deliveries[0]


def claim_a_success_unseen(history: History) -> None:
    history.posts = history.posts[:1]


def call_a_refusal_delivered(history: History) -> None:
    history.posts = [post(1, 500), post(2, 500)]


def change_the_body(history: History) -> None:
    history.posts = [history.posts[0], replace(history.posts[1], body=b"{}")]


def forge_the_signature(history: History) -> None:
    history.posts = [history.posts[0], replace(history.posts[1], signature="v1,AAAA")]


def turn_time_back(history: History) -> None:
    history.posts = [history.posts[0], post(2, 200, timestamp=1_600_000_000)]


def deliver_twice(history: History) -> None:
    history.posts = [post(1, 200), post(2, 200)]


def deliver_once_more_than_crashes(history: History) -> None:
    history.crashes, history.repeats_per_crash = 1, 3
    history.posts = [post(1, 200), post(2, 200), post(3, 200)]


def keep_a_dead_lease(history: History) -> None:
    history.tasks["task-1"].is_zombie = True


def leave_an_attempt_open(history: History) -> None:
    history.deliveries[0].outcome = "pending"


def skip_a_number(history: History) -> None:
    history.deliveries[0].attempt_number = 3


def print_a_secret(history: History) -> None:
    history.sinks = {"log": "callback_url=http://x/?token=canary-secret"}


def leak_descriptors(history: History) -> None:
    history.resources = {"descriptors": (40, 90)}


BROKEN: list[tuple[str, Callable[[History], None]]] = [
    ("I1", lose_the_task),
    ("I1", leave_it_queued),
    ("I1", make_one_nobody_knows),
    ("I2", end_it_twice),
    ("I2", keep_files_of_two_runs),
    ("I3", forget_the_message),
    ("I3", announce_what_runs),
    ("I4", never_end_the_message),
    ("I5", forget_an_attempt),
    ("I5", claim_a_success_unseen),
    ("I6", call_a_refusal_delivered),
    ("I7", change_the_body),
    ("I7", forge_the_signature),
    ("I7", turn_time_back),
    ("I8", deliver_twice),
    ("I8", deliver_once_more_than_crashes),
    ("I9", keep_a_dead_lease),
    ("I9", leave_an_attempt_open),
    ("I10", skip_a_number),
    ("I11", print_a_secret),
    ("I12", leak_descriptors),
]


def test_ledger_finds_nothing_where_the_promise_was_kept() -> None:
    """A history without faults passes, so a failing check means something."""
    assert ledger.check(kept()) == {}


@pytest.mark.parametrize(
    ("invariant", "do"), BROKEN, ids=lambda each: getattr(each, "__name__", each)
)
def test_ledger_sees_a_broken_promise(invariant: str, do: Callable[[History], None]) -> None:
    """Each way to break a promise is reported under its invariant, with a sentence."""
    history = kept()
    do(history)
    assert ledger.check(history).get(invariant), f"{invariant} did not see it"


def test_every_invariant_is_shown_a_violation() -> None:
    """Every rule of the ledger has a test that violates it."""
    assert {invariant for invariant, _ in BROKEN} == set(ledger.INVARIANTS)
