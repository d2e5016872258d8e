"""Does DATABASE_URL work in every form that libpq takes, and fail in a sentence otherwise?"""

from __future__ import annotations

import asyncio
import urllib.parse
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections

from moviesvc import database_url
from tests.foreign.conftest import django_at
from tests.support import certificates, processes
from tests.support.ports import free_port
from tests.support.servers import postgres
from tests.support.servers.postgres import PASSWORD, ROLE, Postgres
from webhooks_app import database

#: Each form, and what Django is to make of it.
FORMS: dict[str, dict[str, Any]] = {
    "postgresql://u:p@h:5433/d": {"USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "5433"},
    "postgres://u@h/d": {"USER": "u", "PASSWORD": "", "HOST": "h", "PORT": ""},
    "postgresql://h/d": {"USER": "", "HOST": "h"},
    "postgresql://%40d%3Am:%25%2F%20%3A%40@h/d": {"USER": "@d:m", "PASSWORD": "%/ :@"},
    "postgresql://u@%2Frun%2Fpg/d": {"HOST": "/run/pg"},
    "postgresql://u@:5433/d?host=/run/pg": {"HOST": "/run/pg", "PORT": "5433"},
    "postgresql:///d?host=%2Frun%2Fa%20place&user=u": {"HOST": "/run/a place", "USER": "u"},
    "postgresql://u@[::1]:5433/d": {"HOST": "::1", "PORT": "5433"},
    "postgresql://u@a:1,b:2/d?target_session_attrs=read-write": {
        "HOST": "a,b",
        "PORT": "1,2",
        "target_session_attrs": "read-write",
    },
    "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/etc/ca%20s.pem": {
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca s.pem",
    },
    "postgresql://u@h/d?ssl=true": {"sslmode": "require"},
    "postgresql://u@h/d?options=-c%20work_mem%3D8MB": {"options": "-c work_mem=8MB"},
    "postgresql://u@h/d?connect_timeout=9&application_name=x": {
        "connect_timeout": "9",
        "application_name": "x",
    },
    r"host=h dbname=d password='a \' b'": {"HOST": "h", "PASSWORD": "a ' b"},
    "postgresql://d@h": {"NAME": "d", "USER": "d"},
    "service=movies": {"NAME": "", "service": "movies"},
}


@pytest.mark.parametrize("url", FORMS)
def test_form_means_to_django_what_it_means_to_libpq(url: str) -> None:
    """User, password, hosts, ports and every parameter are unescaped and passed on."""
    found = database_url.read(url)
    known = {**found.pop("OPTIONS"), **found}
    expected = {"NAME": "d", **FORMS[url]}
    assert {name: known[name] for name in expected} == expected
    assert known["tcp_user_timeout"] == 20_000, "a server that vanished is noticed"


WRONG = (
    "mysql://u:canary@h/d",
    "sqlite:///canary.db",
    "postgresql://u:canary two@h/d",
    "postgresql://u:canary%zz@h/d",
    "postgresql://u:can@ary@h/d",
    "postgresql://u:x@h:canary/d",
    "postgresql://u:x@h:70000/d?application_name=canary",
    "postgresql://u:x@h/d?canary=1",
    "postgresql://[::1/canary",
    "canary",
    "postgresql://:canary@h",
)


@pytest.mark.parametrize("url", WRONG)
def test_what_cannot_be_read_is_a_sentence_without_the_password(url: str) -> None:
    """The error shows nothing of the text, since the password may be any part of it."""
    with pytest.raises(ImproperlyConfigured) as caught:
        database_url.read(url)
    error: BaseException | None = caught.value
    assert error
    assert "DATABASE_URL" in str(error)
    assert error.__suppress_context__ or error.__context__ is None
    assert not [part for part in ("canary", "ary@", "can@") if part in str(error)]


def test_command_says_what_is_wrong_with_the_address() -> None:
    """A start with an invalid DATABASE_URL ends with one sentence."""
    ended = processes.run("manage.py", "check", DATABASE_URL="postgresql://u:can@ary@h/d")
    assert ended.returncode == 1
    assert ended.stderr.startswith("DATABASE_URL has an @ too many.")
    assert "Traceback" not in ended.stderr
    assert "ary" not in ended.stderr.replace("necessary", "")


# -- over real connections -------------------------------------------------------------------


def certify(server: Postgres, host: str) -> Path:
    """Let the server speak TLS with a certificate for ``host``, and return its authority's."""
    key, own, authority = certificates.files_for(host)
    for name, content in (("server.key", key), ("server.crt", own)):
        path = server.data / name
        path.write_bytes(content)
        server.own(path)
        path.chmod(0o600)
    (server.folder / "ca.pem").write_bytes(authority)
    return server.folder / "ca.pem"


@pytest.fixture(scope="module")
def server() -> Any:
    """A server with TLS, whose certificate is for the name `localhost`."""
    with postgres.running("debian") as running:
        running.stop()
        certify(running, "localhost")
        running.start(ssl="on")
        running.make_database()
        yield running


def query(server: Postgres, form: str) -> str:
    """Return the address of the server in one of the forms to be tried."""
    password = urllib.parse.quote(PASSWORD, safe="")
    who, place, dead = f"{ROLE}:{password}", f"127.0.0.1:{server.port}", free_port()
    folder = urllib.parse.quote(str(server.folder), safe="")
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    ca = urllib.parse.quote(str(server.folder / "ca.pem"), safe="")
    return {
        "socket as host": f"postgresql://{who}@{folder}:{server.port}/{ROLE}",
        "socket as parameter": f"postgres://{who}@:{server.port}/{ROLE}?host={server.folder}",
        "first host is dead": f"postgresql://{who}@127.0.0.1:{dead},{place}/{ROLE}"
        "?target_session_attrs=read-write",
        "own authority": f"postgresql://{who}@localhost:{server.port}/{ROLE}"
        f"?sslmode=verify-full&sslrootcert={ca}",
        "options": f"postgresql://{who}@{place}/{ROLE}?options=-c%20work_mem%3D8MB"
        "&application_name=theirs",
        "pairs": f"host=127.0.0.1 port={server.port} user={ROLE} password='{quoted}' dbname={ROLE}",
    }[form]


TOLD = {
    "own authority": ("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", True),
    "options": ("SHOW work_mem", "8MB"),
    "socket as host": ("SELECT inet_server_addr() IS NULL", True),
    "socket as parameter": ("SELECT inet_server_addr() IS NULL", True),
}


@pytest.mark.parametrize(
    "form",
    [
        *("socket as host", "socket as parameter", "first host is dead"),
        *("own authority", "options", "pairs"),
    ],
)
def test_form_reaches_the_database_by_both_ways(
    server: Postgres, form: str, django_db_setup: None, django_db_blocker: Any
) -> None:
    """Django's connection and the engine's both work, with the given parameters."""
    statement, expected = TOLD.get(form, ("SELECT current_user::text", ROLE))
    with django_at(query(server, form), django_db_blocker):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            by_django = cursor.fetchone()[0]
        by_engine = asyncio.run(_ask(statement))
    assert (by_django, by_engine) == (expected, expected)


async def _ask(statement: str) -> Any:
    async with await database.connect("a-part-of-the-engine") as own:
        name = await (await own.execute("SHOW application_name")).fetchone()
        assert name == ("a-part-of-the-engine",)
        row = await (await own.execute(statement)).fetchone()  # type: ignore[arg-type]
    assert row
    return row[0]


def test_certificate_for_another_name_is_refused(
    server: Postgres, django_db_setup: None, django_db_blocker: Any
) -> None:
    """verify-full is passed on: a certificate for another name is refused."""
    url = query(server, "own authority").replace("@localhost:", "@127.0.0.1:")
    with django_at(url, django_db_blocker), pytest.raises(Exception) as caught:
        connections["default"].ensure_connection()
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert "certificate" in str(caught.value)
