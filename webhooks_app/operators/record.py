"""Who did what to the outbox, when and why? Admin, API and commands record it here."""

from __future__ import annotations

from webhooks_app.log import get_logger
from webhooks_app.models import OperatorAction

logger = get_logger(__name__)


def note(actor: str, action: str, target: str, reason: str = "") -> OperatorAction:
    """Record one action, in the transaction of the action itself.

    Args:
        actor: who: a user name, ``key <prefix>`` or ``command <login>``.
        action: what, as a dotted word, for example ``destination.pause``.
    """
    logger.info("Operator action", actor=actor, action=action, target=target, reason=reason)
    return OperatorAction.objects.create(
        actor=actor[:150], action=action, target=target[:300], reason=reason[:500]
    )
