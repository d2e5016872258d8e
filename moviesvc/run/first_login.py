"""How does a developer log in without any set-up? With a key and a password kept in `var/`.

Never used in production. Every start returns the same key and password as long as the database
knows them; otherwise new ones are made.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model

from moviesvc.run.lock_file import write_private
from tasks_app.access.authentication import find_key
from tasks_app.models import ApiKey

ADMIN_USER = "admin"
KEY_NAME = "Development"


def ensure_development_login() -> tuple[str, str, str]:
    """Make sure that a key with every scope and a superuser exist.

    Returns: the API key, the admin's user name and password, in clear text.
    """
    path = Path(settings.VAR_DIR) / "development.json"
    try:
        kept = dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        kept = {}  # lost or incomplete: new ones are made
    key = kept.get("api_key", "")
    if find_key(key) is None:
        _, key = ApiKey.objects.create_key(name=KEY_NAME)
    password = kept.get("admin_password") or secrets.token_urlsafe(9)
    admin, _ = get_user_model().objects.get_or_create(
        username=ADMIN_USER, defaults={"is_staff": True, "is_superuser": True}
    )
    if not admin.check_password(password):  # the file or the row is new
        admin.set_password(password)
        admin.save(update_fields=["password"])
    login = {"api_key": key, "admin_user": ADMIN_USER, "admin_password": password}
    write_private(path, login)
    return key, ADMIN_USER, password
