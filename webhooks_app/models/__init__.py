"""What is stored of events, messages, attempts, receivers and operators?"""

from webhooks_app.models.outbox import (
    WAITS_FOR_PREDECESSOR,
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
    "WAITS_FOR_PREDECESSOR",
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
