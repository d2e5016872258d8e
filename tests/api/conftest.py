"""What do tests of the API share? A provider that renders nothing, and an empty rate limiter."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app import throttling, wake
from tasks_app.task_types import TASK_TYPES


@pytest.fixture(autouse=True)
def _painter(settings: Any) -> None:
    """Make the provider of every type one that accepts nearly everything."""
    path = "tests.api.painter.Painter"
    settings.GENERATION_PROVIDERS = dict.fromkeys(TASK_TYPES, path)


@pytest.fixture(autouse=True)
def _fresh_buckets() -> None:
    """Forget what earlier tests used up."""
    throttling._local._full_at.clear()
    wake.client().flushdb()
