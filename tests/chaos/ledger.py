"""Was anything lost, doubled, forged or left behind? The invariants of the delivery promise.

Each check takes a `History` and yields a sentence for every violation. `check` runs them all; an
empty result means that the promise was kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.chaos.history import TERMINAL, History, Post

Check = Callable[[History], Iterator[str]]
#: More new descriptors, threads or connections than this count as a leak.
LEAK_SLACK = 12
#: The final states of a message.
ENDED = ("delivered", "dead", "superseded", "cancelled")


def accepted_tasks_end(history: History) -> Iterator[str]:
    """I1: every accepted task exists and has ended, and no other task exists."""
    for task_id in history.accepted:
        task = history.tasks.get(task_id)
        if task is None:
            yield f"task {task_id} was accepted and does not exist"
        elif task.status not in TERMINAL:
            yield f"task {task_id} was accepted and is still {task.status}"
    for task_id in history.tasks.keys() - set(history.accepted):
        yield f"task {task_id} exists and nobody was told its id"


def one_result_per_task(history: History) -> Iterator[str]:
    """I2: a task has one terminal event at most, and files of one run only."""
    ends = Counter(event.subject for event in history.events.values() if event.is_terminal)
    for task in history.tasks.values():
        if ends[task.id] > 1:
            yield f"task {task.id} ended {ends[task.id]} times"
        if task.has_result != (task.status == "completed"):
            yield f"task {task.id} is {task.status} and has_result is {task.has_result}"
        runs = {file.run_token for file in history.files if file.task == task.id}
        if len(runs) > 1 or (runs and task.status != "completed"):
            yield f"task {task.id} ({task.status}) has files of {len(runs)} runs"


def end_and_message_are_one(history: History) -> Iterator[str]:
    """I3: an ended task has its event and its message; a running one has neither."""
    events = {event.subject: event for event in history.events.values() if event.is_terminal}
    owed = Counter((message.event, message.url) for message in history.messages.values())
    for task in history.tasks.values():
        event = events.get(task.id)
        if (event is not None) != (task.status in TERMINAL):
            yield f"task {task.id} is {task.status} and its terminal event is {event}"
            continue
        if event is None:
            continue
        if event.event_type != f"task.{task.status}":
            yield f"task {task.id} is {task.status} and told {event.event_type}"
        wanted = int(bool(task.callback_url) and event.event_type in task.webhook_events)
        found = owed[event.id, task.callback_url]
        if found != wanted:
            yield f"task {task.id} owes {wanted} messages to its callback and has {found}"


def messages_end(history: History) -> Iterator[str]:
    """I4: every message ends, and a pending one has a due time."""
    for message in history.messages.values():
        if message.status not in ENDED:
            yield f"message {message.id} is still {message.status}"
            if message.next_attempt_at is None:
                yield f"message {message.id} is {message.status} and never due"


def posts_are_accounted_for(history: History) -> Iterator[str]:
    """I5: each POST has its attempt row, and a row without a POST is no success."""
    posts_of, attempts_of = history.posts_of, history.attempts_of
    for post in posts_of.pop(0, []):
        yield f"a POST of {post.webhook_id} to {post.target} belongs to no message"
    for message_id in history.messages:
        rows, posts = attempts_of[message_id], posts_of[message_id]
        allowed = len(rows) + sum(row.reconnected for row in rows)
        if len(posts) > allowed:
            yield f"message {message_id} was sent {len(posts)} times and has {allowed} attempts"
        numbers, seen = {row.attempt_number for row in rows}, {post.attempt for post in posts}
        for number in sorted(seen - numbers):
            yield f"message {message_id} was sent as attempt {number}, which has no row"
        for row in rows:
            if row.outcome == "succeeded" and row.attempt_number not in seen:
                yield f"attempt {row.attempt_number} of message {message_id} succeeded unseen"


def delivered_means_answered(history: History) -> Iterator[str]:
    """I6: the receiver answered a delivered message with a success status."""
    posts_of = history.posts_of
    for message in history.messages.values():
        is_answered = any(post.is_success for post in posts_of[message.id])
        if message.delivered_at is not None and not is_answered:
            yield f"message {message.id} is called delivered and no receiver said so"


def posts_are_identical_and_signed(history: History) -> Iterator[str]:
    """I7: same id and bytes on every attempt, each signed, timestamps never going back."""
    for message_id, posts in history.posts_of.items():
        if message_id and len({post.body for post in posts}) > 1:
            yield f"message {message_id} was sent with different bodies"
        body = bytes(history.events[history.messages[message_id].event].body) if message_id else b""
        if message_id and posts and posts[0].body != body:
            yield f"message {message_id} was sent with another body than its event's"
        for post in posts:
            if not _is_signed(post, history.secret):
                yield f"attempt {post.attempt} of {post.webhook_id} has a wrong signature"
        times = [post.timestamp for post in sorted(posts, key=lambda each: each.attempt)]
        if message_id and times != sorted(times):
            yield f"message {message_id} was sent with times that go back: {times}"


def _is_signed(post: Post, secret: str) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b".".join([post.webhook_id.encode(), str(post.timestamp).encode(), post.body])
    expected = "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return expected in post.signature.split(" ")


def _repeats(history: History) -> list[int]:
    """Return how many successful POSTs beyond the first each message had."""
    successes = (
        sum(post.is_success for post in posts)
        for message_id, posts in history.posts_of.items()
        if message_id
    )
    return [max(0, count - 1) for count in successes]


def duplicates(history: History) -> int:
    """Count the successful POSTs beyond the first of each message."""
    return sum(_repeats(history))


def duplicates_have_a_cause(history: History) -> Iterator[str]:
    """I8: there are no more duplicates than the crashes can explain."""
    repeats, crashes = _repeats(history), history.crashes
    allowed = crashes * history.repeats_per_crash
    if sum(repeats) > allowed:
        yield f"{sum(repeats)} duplicates, and {crashes} crashes explain {allowed}"
    # A crash can interrupt many requests, but each message at most once.
    if max(repeats, default=0) > crashes:
        yield f"{max(repeats)} duplicates of one message, and {crashes} crashes"


def nothing_is_held_by_the_dead(history: History) -> Iterator[str]:
    """I9: no lease outlives its time, and no attempt stays open after its message has ended."""
    for task in history.tasks.values():
        if task.is_zombie:
            yield f"task {task.id} is held by a lease that ran out"
        if task.status in TERMINAL and task.run_token is not None:
            yield f"task {task.id} has ended and still has a run token"
    for message in history.messages.values():
        if message.is_zombie and message.status == "pending":
            yield f"message {message.id} is held by a lease that ran out"
    for delivery in history.deliveries:
        message = history.messages[delivery.message]
        if delivery.outcome == "pending" and (message.is_zombie or not message.is_leased):
            yield f"attempt {delivery.attempt_number} of message {message.id} was never closed"


def attempts_are_numbered_without_gap(history: History) -> Iterator[str]:
    """I10: attempt numbers are 1..n, and the message's count is n."""
    attempts_of = history.attempts_of
    for message in history.messages.values():
        numbers = [row.attempt_number for row in attempts_of[message.id]]
        if numbers != list(range(1, message.attempt_count + 1)):
            yield f"message {message.id} counts {message.attempt_count} attempts, rows {numbers}"


def no_secret_leaks(history: History) -> Iterator[str]:
    """I11: no canary is found in any log or stored text, nor in what was sent."""
    sent = b"\n".join(post.body for post in history.posts).decode("utf-8", "replace")
    for name, text in {**history.sinks, "webhook bodies": sent}.items():
        for canary in history.canaries:
            if canary in text:
                yield f"{name} contains the canary {canary[:4]}..."


def nothing_leaks(history: History) -> Iterator[str]:
    """I12: no descriptors, threads or connections are left behind."""
    for name, (before, after) in history.resources.items():
        if after > before + LEAK_SLACK:
            yield f"{name} grew from {before} to {after}"


INVARIANTS: dict[str, Check] = {
    "I1": accepted_tasks_end,
    "I2": one_result_per_task,
    "I3": end_and_message_are_one,
    "I4": messages_end,
    "I5": posts_are_accounted_for,
    "I6": delivered_means_answered,
    "I7": posts_are_identical_and_signed,
    "I8": duplicates_have_a_cause,
    "I9": nothing_is_held_by_the_dead,
    "I10": attempts_are_numbered_without_gap,
    "I11": no_secret_leaks,
    "I12": nothing_leaks,
}


def check(history: History) -> dict[str, list[str]]:
    """Return the violations by invariant; empty when the promise was kept."""
    found: dict[str, list[Any]] = {name: list(run(history)) for name, run in INVARIANTS.items()}
    return {name: sentences for name, sentences in found.items() if sentences}
