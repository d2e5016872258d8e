"""What does `manage.py check` say about the webhook settings?

Errors for what would fail at the first delivery, warnings for settings that may be unintended.
Stored secrets are read only where a database was asked for (`check --database default`, and every
`migrate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.utils.module_loading import import_string

from webhooks_app import egress
from webhooks_app.conf import webhook_settings
from webhooks_app.database import why_unusable
from webhooks_app.models import Credential
from webhooks_app.signing import jwks, public_key

Apps = Sequence[AppConfig] | None


@register("webhooks")
def check_settings(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Report a WEBHOOKS dict that cannot be read, unknown keys, and values that cannot be used."""
    from webhooks_app.retry import resolve_policy
    from webhooks_app.signing import store

    try:
        private_key = webhook_settings.ED25519_PRIVATE_KEY
    except (ImproperlyConfigured, ValueError) as error:
        return [Error(str(error), id="webhooks.E001")]
    uses: list[tuple[str, str, Callable[..., object], Any]] = [
        ("E006", "['RETRY_POLICY']", resolve_policy, None),
        *(
            ("E006", f"['POLICIES'][{name!r}]", resolve_policy, name)
            for name in webhook_settings.POLICIES
        ),
        ("E002", "", lambda text: store.encrypt(text, "check"), "whsec_"),
        ("E003", "['ED25519_PRIVATE_KEY']", lambda key: key and public_key(key), private_key),
        ("E007", "['ED25519_PUBLIC_KEYS']", jwks, webhook_settings.ED25519_PUBLIC_KEYS),
        ("E009", "['PROXY']", egress.read_proxy, webhook_settings.PROXY),
        *(
            ("E008", "['AUTHENTICATION_CLASSES']", import_string, name)
            for name in webhook_settings.AUTHENTICATION_CLASSES
        ),
    ]
    found: list[CheckMessage] = []
    for code, place, use, value in uses:
        try:
            use(value)
        except ImproperlyConfigured as error:  # names the setting itself
            found.append(Error(str(error), id=f"webhooks.{code}"))
        except (ImportError, KeyError, TypeError, ValueError) as error:
            found.append(Error(f"WEBHOOKS{place}: {error}", id=f"webhooks.{code}"))
    return found


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
    if webhook_settings.PROXY and webhook_settings.PROXY_GUARDS:
        hint = "It must refuse your own networks, its own machine and metadata addresses."
        text = "Where a webhook's host name leads is judged by the forward proxy alone."
        found.append(Warning(text, hint=hint, id="webhooks.W004"))
    if not webhook_settings.SECRET_KEYS:
        hint = "Set WEBHOOKS['SECRET_KEYS'] to be able to change either without the other."
        text = "Signing secrets are encrypted with a key derived from SECRET_KEY."
        found.append(Info(text, hint=hint, id="webhooks.I001"))
    return found


@register(Tags.database)
def check_stored_secrets(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report stored secrets that the configured keys cannot read, and certificates that end."""
    from webhooks_app.credentials import store as credentials
    from webhooks_app.signing import store

    if not databases or "default" not in databases:
        return []
    try:
        tables = connections["default"].introspection.table_names()
        if "webhooks_app_signingsecret" not in tables:
            return []
        store.require_readable()
        if "webhooks_app_credential" in tables:
            credentials.require_readable()
            return [_ending(row) for row in credentials.expiring()]
    except ImproperlyConfigured as error:
        return [Error(str(error), id="webhooks.E004")]
    except DatabaseError as error:
        # The text of an error of a statement may quote a row, that of a connection quotes none.
        reason = why_unusable(error)
        said = f"{reason} It says: {str(error).strip()}" if reason else type(error).__name__
        return [Error(f"Stored secrets cannot be looked at. {said}", id="webhooks.E005")]
    return []


def _ending(row: Credential) -> CheckMessage:
    assert row.expires_at is not None
    text = f"The client certificate of {row} ends at {row.expires_at:%Y-%m-%d %H:%M} UTC."
    hint = "Its callbacks fail from then on: `manage.py credential change` takes a new one."
    return Warning(text, hint=hint, id="webhooks.W003")
