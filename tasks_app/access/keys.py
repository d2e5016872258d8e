"""How is an API key made and revoked, and how is that recorded? For the admin and the command."""

from __future__ import annotations

import re

from django.db import transaction

from tasks_app.models import ApiKey
from webhooks_app.conf import read_policy
from webhooks_app.egress import EgressDenied, origin_of
from webhooks_app.operators import record
from webhooks_app.operators.credentials import check_known
from webhooks_app.retry import resolve_policy

#: Requests a minute; the most that a key may be given.
MAX_RATE_LIMIT = 1_000_000
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")


def hosts_in(text: str) -> list[str]:
    """Return the hosts in a text, in the form in which they are compared with a URL's.

    Raises:
        ValueError: one is not a host name, for example a URL, or a host with a port.
    """
    return [_host(word) for word in text.replace(",", " ").split()]


def _host(word: str) -> str:
    try:
        if _HOST.fullmatch(word):
            return origin_of(f"https://{word}/").host
    except EgressDenied:
        pass
    raise ValueError(f"{word} is no host: name it alone, without https:// and port")


def policy_in(text: str) -> str | list[float] | None:
    """Return the retry policy in a text: a name, or waits; None if it is empty.

    Raises:
        ValueError: not a valid policy.
    """
    if not text.strip():
        return None
    policy = read_policy(text.strip())
    resolve_policy(policy)
    return policy if isinstance(policy, str) else list(policy)


def auth_in(text: str, project_id: str | None) -> str:
    """Return the name of a key's default credential, checked; empty if it is empty.

    Raises:
        ValueError: its project, or no project at all, has a credential of this name.
    """
    name = text.strip()
    if name:
        check_known(project_id, name)
    return name


@transaction.atomic
def issue(key: ApiKey, *, actor: str, reason: str) -> str:
    """Save a new key and return its clear text, which is not stored."""
    clear = ApiKey.objects.assign_key(key)
    key.save(force_insert=True)
    record.note(actor, "api_key.create", str(key), reason, scope=key.project_id or "")
    return clear


@transaction.atomic
def revoke(prefix: str, *, actor: str, reason: str) -> bool:
    """Revoke a key, with effect within a second; return whether it was active."""
    # One conditional update: the model's own save() would rewrite the whole row.
    if not ApiKey.objects.filter(prefix=prefix, revoked=False).update(revoked=True):
        return False
    key = ApiKey.objects.get(prefix=prefix)
    record.note(actor, "api_key.revoke", str(key), reason, scope=key.project_id or "")
    return True
