"""How does `DATABASE_URL` become Django's settings? Parsed by libpq, so that all its forms work.

These are what `psql` takes: `postgresql://` with several hosts, socket directories, certificates
and other parameters, and `host=... dbname=...`. The error for a text that cannot be parsed quotes
nothing of it, since a password may be anywhere in it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from webhooks_app.database import ALIVE

_FORM = (
    "Write postgresql://user:password@host:port/name?sslmode=... with special characters of user"
    " and password escaped (@ as %40, % as %25, a space as %20), or host=... dbname=..."
)


def read(url: str) -> dict[str, Any]:
    """Return Django's database settings for this URL.

    Raises:
        ImproperlyConfigured: it is not a PostgreSQL URL.
    """
    if url.startswith("sqlite"):
        raise ImproperlyConfigured(
            "SQLite cannot run this service (it needs SKIP LOCKED, LISTEN and partial indexes). "
            "Unset DATABASE_URL for the embedded PostgreSQL, or point it at a PostgreSQL server."
        )
    try:
        found = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Without its cause, which quotes the text.
        raise ImproperlyConfigured(f"DATABASE_URL is no address of PostgreSQL. {_FORM}") from None
    values = {name: str(value) for name, value in found.items() if value}
    if "@" in values.get("host", ""):
        raise ImproperlyConfigured(f"DATABASE_URL has an @ too many. {_FORM}")
    ports = values.get("port", "").split(",")
    if not all(port == "" or (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        raise ImproperlyConfigured(f"DATABASE_URL has a port that is no number. {_FORM}")
    name = values.pop("dbname", "")
    if not name and "service" not in values:
        name = values.get("user", "")  # as libpq does it
        if not name:
            raise ImproperlyConfigured(f"DATABASE_URL names no database. {_FORM}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": values.pop("user", ""),
        "PASSWORD": values.pop("password", ""),
        "HOST": values.pop("host", ""),
        "PORT": values.pop("port", ""),
        "OPTIONS": {**ALIVE, **values},
    }
