"""When would a message be tried, with a given policy and given answers?"""

from __future__ import annotations

import random
from typing import Any

from django.core.management.base import CommandError, CommandParser

from webhooks_app.conf import read_policy, webhook_settings
from webhooks_app.operators.command import OperatorCommand, number, whole
from webhooks_app.operators.explain import seconds_text
from webhooks_app.retry import (
    ERROR_CODES,
    AttemptResult,
    Dead,
    Delivered,
    RetryAt,
    SimulatedAttempt,
    parse_retry_after,
    resolve_policy,
    simulate,
    status_error_code,
)


class Command(OperatorCommand):
    help = (
        "Print when a message would be attempted and what becomes of it, by the very code that "
        "the engine decides with. ANSWERS: status codes or error codes (timeout, dns, ...), the "
        "last one repeats; 429@30 is a 429 with Retry-After: 30."
    )
    examples = (
        ("", "the default policy against a receiver that always fails"),
        ("--policy durable --seed 1", "how long does `durable` go on?"),
        ("429@30 timeout 200", "a receiver that asks for patience, hangs, then answers"),
        ("--policy 1,2,4,8 503", "a policy of one's own"),
    )
    exit_codes = {
        0: "the message would be delivered",
        1: "the message would be dead",
        2: "wrong usage",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("answers", nargs="*", default=["500"], help="Default: 500 for ever.")
        parser.add_argument("--policy", help="A name, waits such as 1,2,4, or [].")
        parser.add_argument(
            "--duration", type=number(0, 86_400), default=0.0, help="Seconds an answer takes."
        )
        parser.add_argument(
            "--seed", type=whole(0, 2**63 - 1), help="For the jitter; the same each time."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            given = options["policy"]
            policy = resolve_policy(None if given is None else read_policy(given))
            answers = [_answer(text, options["duration"]) for text in options["answers"]]
        except ValueError as error:
            raise CommandError(str(error), returncode=2) from None
        rng = random.Random(options["seed"])  # noqa: S311 - jitter, not a secret
        attempts = simulate(policy, answers, 0.0, rng)
        for attempt in attempts:
            self.stdout.write(_line(attempt))
        if not isinstance(attempts[-1].decision, Delivered):
            raise SystemExit(1)


def _answer(text: str, duration_seconds: float) -> AttemptResult:
    code, _, retry_after = text.partition("@")
    asked = parse_retry_after(retry_after, 0.0)
    if retry_after and asked is None:
        raise ValueError(f"{retry_after!r} is no number of seconds to come back after")
    duration_ms = duration_seconds * 1000
    known = {name for name, error in ERROR_CODES.items() if error.is_sent and error.is_charged}
    if code in known:
        return AttemptResult(error_code=code, duration_ms=duration_ms, retry_after=asked)
    if not (code.isascii() and code.isdigit() and len(code) == 3):
        names = ", ".join(name for name in ERROR_CODES if name in known)
        raise ValueError(f"{code!r} is neither a status code nor one of: {names}")
    status = int(code)
    error = status_error_code(status, webhook_settings.SUCCESS_STATUSES)
    return AttemptResult(
        status=status, error_code=error, duration_ms=duration_ms, retry_after=asked
    )


def _line(attempt: SimulatedAttempt) -> str:
    answer = attempt.result.status or attempt.result.error_code
    after = seconds_text(attempt.at) if attempt.at else "at once"
    return (
        f"{attempt.attempt_number:3}  +{attempt.at:12.3f} s  {after:>9}  "
        f"{answer!s:16}  {_verdict(attempt)}"
    )


def _verdict(attempt: SimulatedAttempt) -> str:
    decision = attempt.decision
    if isinstance(decision, RetryAt):
        return f"retry in {decision.delay:.3f} s"
    return f"dead: {decision.reason}" if isinstance(decision, Dead) else "delivered"
