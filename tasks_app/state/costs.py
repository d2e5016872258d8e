"""What will a task cost, what did it cost, and is there a budget left for it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from tasks_app import providers
from tasks_app.providers import prices
from tasks_app.providers.prices import Money


def estimate(task_type: str, task_data: Mapping[str, Any]) -> Money | None:
    """Return what a task is expected to cost at its first provider; None without a price."""
    if not settings.GENERATION_PRICES:
        return None
    provider = providers.get_provider(task_type)
    model = str(task_data.get("model") or getattr(provider, "model", ""))
    return prices.expected(model, task_type, task_data)
