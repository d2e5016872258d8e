"""What do tests of the API share? A provider that renders nothing, and an empty rate limiter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks_app import redis_gate
from tasks_app.access import authentication, throttling
from tasks_app.task_types import TASK_TYPES


@pytest.fixture(autouse=True)
def _painter(settings: Any) -> None:
    """Replace every type's provider by one that accepts nearly everything."""
    path = "tests.support.painter.Painter"
    settings.GENERATION_PROVIDERS = dict.fromkeys(TASK_TYPES, path)


@pytest.fixture(autouse=True)
def _fresh_buckets() -> None:
    """Reset the rate limiter."""
    throttling._local._full_at.clear()
    redis_gate.client().flushdb()


@pytest.fixture(autouse=True)
def forget_keys() -> Callable[[], None]:
    """Make this thread read a key from the database again at the next request."""
    authentication._memory.keys.clear()
    return authentication._memory.keys.clear
