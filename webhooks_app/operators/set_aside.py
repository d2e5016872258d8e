"""How is a dead letter set aside that nobody will send again, and how is that undone?

It stays whole and can be replayed by whoever asks for it, but is no dead letter any more: not in
the counts, the figures and the alerts, nor for a replay that names no state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from django.db import transaction
from django.db.models import Max

from webhooks_app import outbox
from webhooks_app.models import MessageStatus, WebhookMessage
from webhooks_app.operators import record
from webhooks_app.outbox import MessageFilters, messages_of

#: Messages per transaction, and as many as one call takes that does not wait for all.
BATCH = 500


class NotPossible(ValueError):
    """The message is no dead letter, or none that was set aside."""


@transaction.atomic
def one(message: WebhookMessage, *, actor: str, reason: str, is_undone: bool = False) -> None:
    """Set one dead letter aside, or make it a dead letter again.

    Raises:
        NotPossible: its state is another one.
    """
    if not outbox.set_aside([message.pk], is_undone=is_undone):
        state = WebhookMessage.objects.values_list("status", flat=True).get(pk=message.pk)
        kind = "set aside" if is_undone else "a dead letter"
        raise NotPossible(f"the message is {state.replace('_', ' ')}, and not {kind}")
    target, project = f"message {message.pk}", message.event.scope
    record.note(actor, _action(is_undone), target, reason, scope=project)


def many(
    filters: MessageFilters,
    scope: str | None = None,
    *,
    actor: str,
    reason: str,
    is_undone: bool = False,
    on_batch: Callable[[int], bool] = lambda changed: True,
) -> int:
    """Set aside every dead letter that a filter means, or undo that; return how many changed.

    Each batch is one transaction, the first one with the line in the record.

    Args:
        scope: the only project whose messages may be touched; None for all.
        on_batch: called after each batch with the number changed so far; False ends it.
    """
    before = MessageStatus.SET_ASIDE if is_undone else MessageStatus.DEAD
    filters = replace(filters, status=str(before))
    meant = messages_of(filters, scope)
    highest = meant.aggregate(highest=Max("id"))["highest"] or 0
    done, last = 0, 0
    while last < highest:
        ids = meant.filter(id__gt=last, id__lte=highest).order_by("id").values_list("id", flat=True)
        chosen = list(ids[:BATCH])
        if not chosen:
            break
        with transaction.atomic():
            changed = len(outbox.set_aside(chosen, is_undone=is_undone))
            if changed and not done:
                target = f"messages: {filters.describe()}"
                project = scope or filters.project
                record.note(actor, _action(is_undone), target, reason, scope=project)
        done, last = done + changed, chosen[-1]
        if not on_batch(done):
            break
    return done


def _action(is_undone: bool) -> str:
    return "message.take_back" if is_undone else "message.set_aside"
