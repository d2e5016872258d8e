"""How does a developer log in without any set-up? With a key and a password kept in `var/`.

Never used in production. Every start returns the same key and password as long as the database
knows them; otherwise new ones are made.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model

from tasks_app.models import ApiKey

ADMIN_USER = "admin"
KEY_NAME = "Development"


def ensure_development_login() -> tuple[str, str, str]:
    """Make sure that a key with every scope and a superuser exist.

    Returns: the API key, the admin's user name and password, in clear text.
    """
    path = Path(settings.VAR_DIR) / "development.json"
    kept = _read(path)
    key = kept.get("api_key", "")
    if not _is_usable(key):
        _, key = ApiKey.objects.create_key(name=KEY_NAME)
    password = kept.get("admin_password") or secrets.token_urlsafe(9)
    _ensure_admin(password)
    _write(path, {"api_key": key, "admin_user": ADMIN_USER, "admin_password": password})
    return key, ADMIN_USER, password


def _is_usable(key: str) -> bool:
    found = ApiKey.objects.filter(prefix=key.partition(".")[0], revoked=False).first()
    return found is not None and not found.has_expired and found.is_valid(key)


def _ensure_admin(password: str) -> None:
    """Set the admin's password if it differs, that is when the file or the row is new."""
    users = get_user_model().objects
    admin, _ = users.get_or_create(
        username=ADMIN_USER, defaults={"is_staff": True, "is_superuser": True}
    )
    if not admin.check_password(password):
        admin.set_password(password)
        admin.save(update_fields=["password"])


def _read(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}  # lost or incomplete: new ones are made


def _write(path: Path, login: dict[str, str]) -> None:
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(login, file)
    new.rename(path)
