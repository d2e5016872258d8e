"""How is an API key made and ended, and how does that get on record? Admin and command call it."""

from __future__ import annotations

import re

from django.db import transaction

from tasks_app.models import ApiKey
from webhooks_app.conf import read_policy
from webhooks_app.egress import EgressDenied, origin_of
from webhooks_app.operators import record
from webhooks_app.retry import resolve_policy

_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")


def hosts_in(text: str) -> list[str]:
    """Return the hosts in a text, as they are compared with a URL's.

    Raises:
        ValueError: one is no host, such as a URL, or a host with a port.
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
    """Return the retry policy in a text: a name, or waits; None where it names none.

    Raises:
        ValueError: there is no such policy.
    """
    if not text.strip():
        return None
    policy = read_policy(text.strip())
    resolve_policy(policy)
    return policy if isinstance(policy, str) else list(policy)


@transaction.atomic
def issue(key: ApiKey, *, actor: str, reason: str) -> str:
    """Save a new key and return its clear text, which nobody can ever show again."""
    clear = ApiKey.objects.assign_key(key)
    key.save(force_insert=True)
    record.note(actor, "api_key.create", str(key), reason)
    return clear


@transaction.atomic
def revoke(prefix: str, *, actor: str, reason: str) -> bool:
    """End a key within a second; return whether there was an active one."""
    # One conditional update: the model's own save() would rewrite the whole row.
    if not ApiKey.objects.filter(prefix=prefix, revoked=False).update(revoked=True):
        return False
    key = ApiKey.objects.get(prefix=prefix)
    record.note(actor, "api_key.revoke", str(key), reason)
    return True
