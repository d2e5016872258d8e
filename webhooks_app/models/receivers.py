"""Who is told? A destination, a subscription, and the secrets that sign and open the door.

Import these from `webhooks_app.models`.
"""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from webhooks_app.notation import origin_text


class BreakerState(StrEnum):
    """Whether messages flow (closed), wait (open), or one probe is sent (half_open)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class WebhookDestination(models.Model):
    """One origin as one project sees it; one project's failures never slow another project."""

    scope = models.CharField(max_length=100)
    scheme = models.CharField(max_length=5)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    held_until = models.DateTimeField(null=True, blank=True)
    hold_reason = models.CharField(max_length=40, blank=True, default="")
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=300, blank=True, default="")
    max_in_flight = models.PositiveIntegerField(null=True, blank=True)
    # Until then nobody is told that it fails: an operator knows. It changes no delivery.
    muted_until = models.DateTimeField(null=True, blank=True)
    # What the engines see; it limits nothing. ``window``: how many requests the engine that wrote
    # last allows in flight.
    window = models.PositiveIntegerField(null=True, blank=True)
    breaker_state = models.CharField(max_length=10, default="closed")
    failing_messages = models.PositiveIntegerField(default=0)
    # What subscribers of `endpoint.*` were told last: failing, disabled or recovered.
    reported_state = models.CharField(max_length=10, blank=True, default="", db_default="")
    last_success_at = models.DateTimeField(null=True, blank=True)
    last_failure_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "destination"
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(
                fields=["scope", "scheme", "host", "port"], name="destination_once"
            )
        ]
        indexes: ClassVar[list[models.Index]] = [
            # Serves a prefix as well as the whole name, in every collation.
            models.Index(
                fields=["host"], opclasses=["varchar_pattern_ops"], name="destination_host"
            ),
            # Each engine asks for both every second, and there may be many that are neither.
            models.Index(
                fields=["disabled_at"],
                condition=Q(disabled_at__isnull=False),
                name="destination_disabled",
            ),
            models.Index(
                fields=["held_until"],
                condition=Q(held_until__isnull=False),
                name="destination_held",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.origin} ({self.scope or 'installation'})"

    @property
    def origin(self) -> str:
        """Return ``scheme://host:port``, without the scheme's default port."""
        return origin_text(self.scheme, self.host, self.port)


class WebhookEndpoint(models.Model):
    """A subscription: every event of a project, filtered by type, to one URL."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=100, db_index=True)
    url = models.CharField(max_length=2048)
    event_types = models.JSONField(default=list, blank=True, help_text="Empty: all types.")
    description = models.CharField(max_length=200, blank=True, default="")
    filter = models.JSONField(null=True, blank=True, help_text="Conditions; empty: every event.")
    ordered = models.BooleanField(
        default=False, db_default=False, help_text="Each event of a task waits for the one before."
    )
    callback_auth = models.CharField(
        max_length=100, blank=True, default="", db_default="", help_text="A credential's name."
    )
    retry_policy = models.JSONField(null=True, blank=True)
    is_enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "endpoint"
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["scope", "url"], name="endpoint_once")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["url"], opclasses=["varchar_pattern_ops"], name="endpoint_url"),
            models.Index(fields=["-created_at", "-id"], name="endpoint_page"),
        ]

    def __str__(self) -> str:
        return f"{self.url} ({self.scope or 'installation'})"


class Alert(models.Model):
    """What subscribers were told last of something that has no row of its own."""

    name = models.CharField(primary_key=True, max_length=60)
    state = models.CharField(max_length=10)
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"


class SigningSecret(models.Model):
    """A signing secret, encrypted at rest; ``expires_at`` is set when a newer one replaces it."""

    scope = models.CharField(max_length=100)
    endpoint = models.ForeignKey(
        WebhookEndpoint, null=True, blank=True, on_delete=models.CASCADE, related_name="secrets"
    )
    ciphertext = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(
                fields=["scope"],
                condition=Q(expires_at__isnull=True, endpoint__isnull=True),
                name="secret_one_current_per_scope",
            ),
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=Q(expires_at__isnull=True, endpoint__isnull=False),
                name="secret_one_current_per_endpoint",
            ),
        ]

    def __str__(self) -> str:
        return f"signing secret of {self.scope}"


class CredentialKind(models.TextChoices):
    """How a request proves to the receiver, or to what stands before it, who we are."""

    HEADERS = "headers", "custom headers"
    BEARER = "bearer", "bearer token"
    BASIC = "basic", "user name and password"
    OAUTH2 = "oauth2", "OAuth 2 client credentials"
    CLIENT_CERTIFICATE = "client_certificate", "client certificate (mTLS)"


class Credential(models.Model):
    """A project's credential, encrypted at rest, for requests to its origins and no others."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=20, choices=CredentialKind)
    origins = models.JSONField(default=list, help_text="scheme://host:port, one or more.")
    # What may be shown: header names, a user name, a token URL, a certificate's subject.
    details = models.JSONField(default=dict, blank=True)
    ciphertext = models.BinaryField()
    # Rises with each change, so that connections and tokens of the old one are not used again.
    version = models.PositiveIntegerField(default=1)
    # The end of a client certificate.
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["scope", "name"], name="credential_once")
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-created_at", "-id"], name="credential_page")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.scope})"
