"""Which fixtures do the tests of the engine share? An engine, and a receiver that verifies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.receiver import Receiver
from tests.support.running import SCOPE, running_engine
from webhooks_app.delivery.thread import EngineThread
from webhooks_app.signing.store import get_or_create


@pytest.fixture
def engine(transactional_db: None) -> Iterator[EngineThread]:
    """An engine in a thread, as a worker process hosts it."""
    with running_engine() as thread:
        yield thread


@pytest.fixture
def receiver(transactional_db: None) -> Iterator[Receiver]:
    """A receiver that verifies with the project's own secret."""
    with Receiver([200], secret=get_or_create(SCOPE)) as receiver:
        yield receiver


@pytest.fixture
def count_logged(capsys: pytest.CaptureFixture[str]) -> Callable[[str], int]:
    """Return a function that counts the log lines of this test with a text."""
    seen: list[str] = []

    def count(text: str) -> int:
        seen.append(capsys.readouterr().err)
        return "".join(seen).count(text)

    return count
