"""What does `manage.py check` say about the webhook settings?

Errors for what would fail at the first delivery, warnings for settings that may be unintended.
Stored secrets are read only where a database was asked for (`check --database default`, and every
`migrate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.utils.module_loading import import_string

from webhooks_app.conf import webhook_settings
from webhooks_app.signing import InvalidSecret, jwks, public_key

Apps = Sequence[AppConfig] | None


@register("webhooks")
def check_settings(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report a WEBHOOKS dict that cannot be read, and unknown keys."""
    try:
        private_key = webhook_settings.ED25519_PRIVATE_KEY
    except (ImproperlyConfigured, ValueError) as error:
        return [Error(str(error), id="webhooks.E001")]
    errors = [*_policy_errors(), *_secret_key_errors(), *_ed25519_errors(private_key)]
    return [*errors, *_authentication_errors()]


@register("webhooks", deploy=True)
def check_exposure(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that relax the egress policy, and secrets that depend on SECRET_KEY."""
    found: list[CheckMessage] = []
    if webhook_settings.ALLOW_NETWORKS:
        networks = ", ".join(str(network) for network in webhook_settings.ALLOW_NETWORKS)
        hint = "Each is reachable for every client that may submit a callback_url."
        found.append(Warning(f"Webhooks may go to {networks}.", hint=hint, id="webhooks.W001"))
    if not webhook_settings.REQUIRE_HTTPS:
        hint = "Signed bodies then cross the network in clear text."
        found.append(Warning("Webhooks may go over http.", hint=hint, id="webhooks.W002"))
    if not webhook_settings.SECRET_KEYS:
        hint = "Set WEBHOOKS['SECRET_KEYS'] to be able to change either without the other."
        text = "Signing secrets are encrypted with a key derived from SECRET_KEY."
        found.append(Info(text, hint=hint, id="webhooks.I001"))
    return found


@register(Tags.database)
def check_stored_secrets(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report signing secrets that the configured keys cannot read."""
    from webhooks_app.signing import store

    if not databases or "default" not in databases:
        return []
    try:
        if "webhooks_app_signingsecret" not in connections["default"].introspection.table_names():
            return []
        store.require_readable()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="webhooks.E004")]
    except DatabaseError as error:
        return [Error(f"the database cannot be asked: {type(error).__name__}", id="webhooks.E005")]
    return []


def _policy_errors() -> list[CheckMessage]:
    from webhooks_app.retry import resolve_policy

    found: list[CheckMessage] = []
    default = ("['RETRY_POLICY']", None)
    named = [(f"['POLICIES'][{name!r}]", name) for name in webhook_settings.POLICIES]
    for place, policy in [default, *named]:
        try:
            resolve_policy(policy)
        except (ValueError, TypeError, KeyError) as error:
            found.append(Error(f"WEBHOOKS{place}: {error}", id="webhooks.E006"))
    return found


def _secret_key_errors() -> list[CheckMessage]:
    from webhooks_app.signing import store

    try:
        store.encrypt("whsec_", "check")
    except ImproperlyConfigured as error:
        return [Error(str(error), id="webhooks.E002")]
    return []


def _authentication_errors() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for name in webhook_settings.AUTHENTICATION_CLASSES:
        try:
            import_string(name)
        except ImportError as error:
            found.append(Error(f"WEBHOOKS['AUTHENTICATION_CLASSES']: {error}", id="webhooks.E008"))
    return found


def _ed25519_errors(private_key: str) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    try:
        if private_key:
            public_key(private_key)
    except InvalidSecret as error:
        found.append(Error(f"WEBHOOKS['ED25519_PRIVATE_KEY']: {error}", id="webhooks.E003"))
    try:
        jwks(webhook_settings.ED25519_PUBLIC_KEYS)
    except InvalidSecret as error:
        found.append(Error(f"WEBHOOKS['ED25519_PUBLIC_KEYS']: {error}", id="webhooks.E007"))
    return found
