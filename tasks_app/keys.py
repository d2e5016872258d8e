"""How is an API key made and ended, and how does that get on record? Admin and command call it."""

from __future__ import annotations

from django.db import transaction

from tasks_app.models import ApiKey
from webhooks_app import operator_record


@transaction.atomic
def issue(key: ApiKey, *, actor: str, reason: str) -> str:
    """Save a new key and return its clear text, which nobody can ever show again."""
    clear = ApiKey.objects.assign_key(key)
    key.save(force_insert=True)
    operator_record.note(actor, "api_key.create", str(key), reason)
    return clear


@transaction.atomic
def revoke(prefix: str, *, actor: str, reason: str) -> bool:
    """End a key with its next request; return whether there was an active one."""
    # One conditional update: the model's own save() would rewrite the whole row.
    if not ApiKey.objects.filter(prefix=prefix, revoked=False).update(revoked=True):
        return False
    key = ApiKey.objects.get(prefix=prefix)
    operator_record.note(actor, "api_key.revoke", str(key), reason)
    return True
