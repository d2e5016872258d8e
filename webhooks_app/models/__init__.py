"""What is stored of events, messages, attempts, receivers and operators?"""

from webhooks_app.models.outbox import (
    DeliveryOutcome,
    DeliveryTrigger,
    MessageStatus,
    OperatorAction,
    ReplayJob,
    ReplayState,
    WebhookDelivery,
    WebhookEvent,
    WebhookMessage,
)
from webhooks_app.models.receivers import (
    BreakerState,
    Credential,
    CredentialKind,
    SigningSecret,
    WebhookDestination,
    WebhookEndpoint,
)

__all__ = [
    "BreakerState",
    "Credential",
    "CredentialKind",
    "DeliveryOutcome",
    "DeliveryTrigger",
    "MessageStatus",
    "OperatorAction",
    "ReplayJob",
    "ReplayState",
    "SigningSecret",
    "WebhookDelivery",
    "WebhookDestination",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookMessage",
]
