"""What was paid, and what may be? Records of money outlive the tasks they are about."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

#: Every amount: to a millionth, below a million millions.
AMOUNT: dict[str, Any] = {"max_digits": 18, "decimal_places": 6}


class CostBasis(models.TextChoices):
    """How an amount is known."""

    MEASURED = "measured"  # from the files that were made
    ESTIMATED = "estimated"  # the provider made something, of which nothing could be measured
    UNCLEAR = "unclear"  # it may have been paid for: nobody knows, so it is booked


class Cost(models.Model):
    """What one piece of work cost; its id is that of the remote job, or of the run on this machine.

    Written in the transaction that ends the work, by `tasks_app.state.costs` alone, and never
    changed.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task_id = models.UUIDField(db_index=True)
    project_id = models.CharField(max_length=100)
    key_prefix = models.CharField(max_length=150, blank=True, default="")
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=200, blank=True, default="")
    amount = models.DecimalField(**AMOUNT)
    currency = models.CharField(max_length=3)
    basis = models.CharField(max_length=10, choices=CostBasis)
    booked_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["project_id", "booked_at"],
                include=["currency", "amount"],
                name="cost_of_project",
            ),
            models.Index(
                fields=["key_prefix", "booked_at"],
                include=["currency", "amount"],
                condition=~Q(key_prefix=""),
                name="cost_of_key",
            ),
            models.Index(fields=["booked_at", "id"], name="cost_page"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.currency} for {self.task_id}"


class Project(models.Model):
    """What an operator has set for a project; one without settings has no row."""

    id = models.CharField(primary_key=True, max_length=100)
    budget_amount = models.DecimalField(
        null=True, blank=True, **AMOUNT, help_text="Most per calendar month (UTC); empty: no limit."
    )
    budget_currency = models.CharField(max_length=3, blank=True, default="")
    callback_auth = models.CharField(
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="The credential of its callbacks, by name; empty: none.",
    )
    asset_quota_bytes = models.BigIntegerField(
        null=True, blank=True, help_text="Bytes of assets; empty: the service's default."
    )

    def __str__(self) -> str:
        return str(self.id)
