"""How far is a replay? Counted from the messages themselves, so that it cannot drift."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count

from webhooks_app.models import MessageStatus, ReplayJob, ReplayState


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is. ``left`` messages were not looked at yet."""

    total: int
    started: int
    skipped: int
    left: int
    pending: int
    delivered: int
    dead: int
    ended_otherwise: int

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing of it is still to be sent."""
        return not self.left and not self.pending

    @property
    def is_all_delivered(self) -> bool:
        """Tell whether every message that was meant has been delivered, none left out."""
        return self.is_settled and self.delivered == self.total


def progress(job: ReplayJob) -> Progress:
    """Count how far a replay is, from the messages themselves."""
    counted = job.messages.values_list("status").annotate(Count("id")).order_by()
    by_status: dict[str, int] = dict(counted)
    looked_at = job.started_count + job.skipped_count
    return Progress(
        total=job.total,
        started=job.started_count,
        skipped=job.skipped_count,
        left=max(0, job.total - looked_at) if job.state == ReplayState.RUNNING else 0,
        pending=by_status.pop(MessageStatus.PENDING, 0),
        delivered=by_status.pop(MessageStatus.DELIVERED, 0),
        dead=by_status.pop(MessageStatus.DEAD, 0),
        ended_otherwise=sum(by_status.values()),
    )
