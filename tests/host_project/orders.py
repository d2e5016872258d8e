"""What happens in the shop? An order is shipped, and whoever wants to know is told."""

import json

from django.db import transaction

from webhooks_app.outbox import Target, publish


def ship(order_id: str, callback_url: str) -> str:
    """Ship an order; return the event's id, which receivers see as ``webhook-id``."""
    with transaction.atomic():  # the order's new state and its event: both, or neither
        event = publish(
            scope="books",
            subject=order_id,
            sequence=1,
            event_type="order.shipped",
            body=json.dumps({"type": "order.shipped", "order": order_id}).encode(),
            is_terminal=True,
            targets=[Target(callback_url)],
        )
    return event.event_id
