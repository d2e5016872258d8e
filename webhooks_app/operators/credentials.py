"""How are credentials made, changed, tried out and deleted? For the admin, the API and commands.

A secret comes in here and never goes out again. Whoever may change a credential but does not know
its secret must not get it sent to himself: another origin, or another token server, is taken only
together with the secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, connection, transaction

from webhooks_app import outbox
from webhooks_app.credentials import (
    PARTS,
    BadCredential,
    origin_in,
    read_origins,
    read_parts,
    seal,
    unseal,
)
from webhooks_app.models import Credential, WebhookEndpoint, WebhookMessage
from webhooks_app.notation import counted
from webhooks_app.operators import record
from webhooks_app.signing.store import UnreadableSecret

MAX_PER_SCOPE = 100
#: Most messages looked at for the origins that they need.
_MOST_LOOKED_AT = 10_000

#: Returns who uses a project's credential, in words: ``(scope, name) -> ["2 API keys"]``.
User = Callable[[str, str], Sequence[str]]
_users: list[User] = []


class CredentialRefused(Exception):
    """A credential cannot be made, changed or deleted this way. ``code`` is documented."""

    code = "refused"


class CredentialExists(CredentialRefused):
    """The project has a credential of this name already."""

    code = "credential_exists"


class TooManyCredentials(CredentialRefused):
    """The project has reached its limit of credentials."""

    code = "too_many_credentials"


class CredentialInUse(CredentialRefused):
    """Something still names it."""

    code = "in_use"


class NotBound(ValueError):
    """A credential is unknown, or may not be used for a URL; ``code`` and text say which."""

    def __init__(self, text: str, code: str = "not_bound") -> None:
        super().__init__(text)
        self.code = code


def register_user(user: User) -> None:
    """Let a project say what else uses a credential, so that it is not deleted meanwhile."""
    _users.append(user)


def create(
    scope: str,
    name: str,
    kind: str,
    origins: Sequence[str],
    given: Mapping[str, Any],
    *,
    actor: str,
    reason: str = "",
) -> Credential:
    """Store a new credential; ``given`` has the parts of its kind.

    Raises:
        BadCredential: what is wrong, field by field.
        CredentialExists, TooManyCredentials: as they say.
    """
    parts = read_parts(kind, given)
    row = Credential(scope=scope, name=name, kind=kind, origins=read_origins(origins))
    seal(row, parts)
    with transaction.atomic():
        _lock(scope)
        if Credential.objects.filter(scope=scope).count() >= MAX_PER_SCOPE:
            raise TooManyCredentials(f"a project may have {MAX_PER_SCOPE} credentials")
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            raise CredentialExists(f"the project has a credential {name!r} already") from None
        record.note(actor, "credential.create", _named(row), reason, scope=row.scope)
        _hasten(row)
    return row


def change(
    credential: Credential,
    *,
    origins: Sequence[str] | None = None,
    given: Mapping[str, Any] | None = None,
    actor: str,
    reason: str = "",
) -> Credential:
    """Change origins or parts; parts that are not given stay. What waits for it is sent at once.

    Raises:
        BadCredential: what is wrong, field by field; also an origin or a token server that is new
            where the secret is not given with it.
        CredentialInUse: something that uses it would lose its origin.
        Credential.DoesNotExist: it was deleted meanwhile.
    """
    with transaction.atomic():
        row = Credential.objects.select_for_update().get(pk=credential.pk)
        wanted = row.origins if origins is None else read_origins(origins)
        given = {name: value for name, value in (given or {}).items() if value not in (None, "")}
        parts = read_parts(row.kind, {**_stored(row, given), **given})
        _check_disclosure(row, wanted, given)
        _check_origins_kept(row, wanted)
        row.origins, row.version = wanted, row.version + 1
        seal(row, parts)
        row.save(
            update_fields=[
                "origins",
                "details",
                "ciphertext",
                "version",
                "expires_at",
                "updated_at",
            ]
        )
        what = ", ".join(sorted([*given, *(["origins"] if origins is not None else [])]))
        target = f"{_named(row)}: {what or 'nothing'}"
        record.note(actor, "credential.change", target, reason, scope=row.scope)
        _hasten(row)
    return row


def _stored(row: Credential, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return unseal(row)
    except UnreadableSecret as error:
        needed = [name for name in PARTS[row.kind] if name in row.details]
        if PARTS[row.kind][0] in given:  # with a new secret it can be used again
            return {name: row.details[name] for name in needed}
        raise BadCredential({PARTS[row.kind][0]: f"Give it anew: {error}"}) from None


def _check_disclosure(row: Credential, wanted: Sequence[str], given: Mapping[str, Any]) -> None:
    secret = PARTS[row.kind][0]
    if secret in given:
        return
    text = f"Give {secret} with it: nobody may have a secret sent elsewhere without knowing it."
    problems = {"origins": text} if set(wanted) - set(row.origins) else {}
    if "token_url" in given and given["token_url"] != row.details.get("token_url"):
        problems["token_url"] = text
    if problems:
        raise BadCredential(problems)


def _check_origins_kept(row: Credential, wanted: Sequence[str]) -> None:
    lost = set(row.origins) - set(wanted)
    if not lost:
        return
    endpoints = WebhookEndpoint.objects.filter(scope=row.scope, callback_auth=row.name)
    urls = [*endpoints.values_list("url", flat=True)]
    urls += _pending(row).values_list("url", flat=True).distinct()[:_MOST_LOOKED_AT]
    if needed := sorted({origin_in(url) for url in urls} & lost):
        text = f"endpoints or pending messages still use it for {', '.join(needed)}"
        raise CredentialInUse(text)


def delete(credential: Credential, *, actor: str, reason: str = "") -> None:
    """Delete a credential that nothing uses.

    Raises:
        CredentialInUse: endpoints, messages or something else names it; the text says what.
        Credential.DoesNotExist: it was deleted meanwhile.
    """
    with transaction.atomic():
        row = Credential.objects.select_for_update().get(pk=credential.pk)
        if uses := uses_of(row):
            raise CredentialInUse(f"it is used by {', '.join(uses)}")
        record.note(actor, "credential.delete", _named(row), reason, scope=row.scope)
        row.delete()


def uses_of(row: Credential) -> list[str]:
    """Return in words what uses a credential."""
    endpoints = WebhookEndpoint.objects.filter(scope=row.scope, callback_auth=row.name).count()
    pending = _pending(row).count()
    ours = {"endpoint": endpoints, "pending message": pending}
    found = [counted(count, noun) for noun, count in ours.items() if count]
    for user in _users:
        found += user(row.scope, row.name)
    return found


def _pending(row: Credential) -> Any:
    return WebhookMessage.objects.filter(
        status="pending", callback_auth=row.name, destination__scope=row.scope
    )


def check_usable(scope: str, name: str, url: str = "") -> None:
    """Check that a project has this credential, bound to the URL's origin if one is given.

    In a transaction the credential is also kept from being deleted until its end.

    Raises:
        NotBound: with a sentence for whoever asked.
    """
    rows = Credential.objects.filter(scope=scope, name=name)
    if connection.in_atomic_block:
        rows = rows.select_for_update(no_key=True)
    row = rows.first()
    if row is None:
        known = Credential.objects.filter(scope=scope).order_by("name")
        names = ", ".join(known.values_list("name", flat=True)[:20]) or "none"
        text = f"The project has no credential of this name; it has: {names}."
        raise NotBound(text, "unknown_credential")
    if url and origin_in(url) not in row.origins:
        raise NotBound(
            f"The credential is bound to {', '.join(row.origins)} and goes to no other origin."
        )


def check_known(scope: str | None, name: str) -> None:
    """Check a default: the project, or without one any project, has a credential of this name.

    Raises:
        NotBound: with a sentence for whoever asked.
    """
    if scope is not None:
        check_usable(scope, name)
    elif not Credential.objects.filter(name=name).exists():
        raise NotBound("No project has a credential of this name.", "unknown_credential")


def _hasten(row: Credential) -> None:
    if outbox.hasten(row.scope, row.name):
        outbox.wake()


def _lock(scope: str) -> None:
    with connection.cursor() as cursor:
        name = f"webhook credentials {scope}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def _named(row: Credential) -> str:
    return f"credential {row.name} of {row.scope}"
