"""Is the admin safe to use? Secrets, cookies, CSP, password guessing, dead links."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from moviesvc.admin_gate import AdminLoginThrottle
from tasks_app.models import ApiKey
from tests import ROOT
from tests.support import factories
from webhooks_app.models import OperatorAction, SigningSecret
from webhooks_app.operators import replay
from webhooks_app.signing import store

LOGIN = "/admin/login/"
_LINK = re.compile(r'(?:href|data-live-url)="([^"#]+)')
_PRODUCTION = """
import json, sys, django
from django.conf import settings
django.setup()
from django.core.management import call_command
from django.core.management.base import SystemCheckError
try:
    call_command("check", deploy=True, fail_level="WARNING")
except SystemCheckError as error:
    sys.exit(str(error))
names = ["SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_SAMESITE",
         "SESSION_COOKIE_NAME", "CSRF_COOKIE_SECURE", "CSRF_COOKIE_HTTPONLY", "CSRF_COOKIE_NAME",
         "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS", "DEBUG"]
print(json.dumps({name: getattr(settings, name) for name in names}))
"""


def test_production_settings_pass_the_deployment_check(tmp_path: Path) -> None:
    """Shows that `check --deploy` finds nothing, and that cookies are bound to https."""
    told = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "PUBLIC_URL": "https://movies.example.org",
        "ALLOWED_HOSTS": "movies.example.org",
        "VAR_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
    }
    ran = subprocess.run(
        [sys.executable, "-c", _PRODUCTION],
        cwd=ROOT, env={**os.environ, **told}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_NAME": "__Host-sessionid",
        "CSRF_COOKIE_SECURE": True,
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_NAME": "__Host-csrftoken",
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 31_536_000,
        "DEBUG": False,
    }


def links(page: str, html: str) -> Iterator[str]:
    """Return the links of an admin page within the admin."""
    for found in _LINK.findall(html):
        address = urljoin(page, unescape(found))
        if address.startswith("/admin/") and "logout" not in address:
            yield address


def kind_of(address: str) -> str:
    """Return what an address shows; lists filtered by the same column are of one kind."""
    path, _, query = address.partition("?")
    return f"{path}?{query.partition('=')[0]}" if query else path


def crawl(client: Client) -> dict[str, str]:
    """Follow links from the dashboard on, once of each kind; return the text of each page."""
    seen: dict[str, str] = {}
    waiting = deque(["/admin/"])
    while waiting:
        page = waiting.popleft()
        if kind_of(page) in seen:
            continue
        answer = client.get(page, follow=True)
        assert answer.status_code == 200, page
        html = seen[kind_of(page)] = answer.content.decode()
        waiting.extend(links(answer.request["PATH_INFO"], html))
    return seen


def plant(word: str) -> list[str]:
    """Put secrets into every place that may hold one; return what must not be shown."""
    url = f"https://user:{word}@receiver.example.org/hook?token={word}"
    place = factories.make_destination(scope="film")
    task = factories.make_task("failed", project_id="film", callback_url=url, error="no luck")
    event = factories.make_event("task.failed", subject=str(task.pk), scope="film")
    endpoint = factories.make_endpoint(url, scope="film")
    message = factories.make_message(
        "dead", event=event, url=url, destination=place, endpoint=endpoint
    )
    job = replay.start(
        replay.MessageFilters(project="film"), reason="why", requested_by="me", source="admin"
    )
    job.target_url = url
    job.save()
    factories.make_delivery(message, "failed", url=url)
    key, clear = factories.make_api_key("a key")
    of_endpoint = store.get_or_create("film", endpoint.pk)
    of_project = store.get_or_create("film")
    stored = [bytes(row.ciphertext).decode() for row in SigningSecret.objects.all()]
    hashed = ApiKey.objects.get(pk=key.pk).hashed_key
    parts = [secret.removeprefix("whsec_") for secret in (of_endpoint, of_project)]
    return [word, clear.partition(".")[2], hashed, *parts, *stored, settings.SECRET_KEY]


@pytest.mark.django_db
def test_every_link_leads_to_a_page_and_none_shows_a_secret() -> None:
    """Shows, over every page that can be reached, that no link is dead and no secret shown."""
    secrets = plant("CANARYcanary")
    staff = factories.make_staff("mara")
    secrets.append(get_user_model().objects.get(pk=staff.pk).password.rpartition("$")[2])
    client = Client()
    client.force_login(staff)
    pages = crawl(client)
    kinds = {re.sub(r"[0-9a-f-]{36}|\d+", "N", page.partition("?")[0]) for page in pages}
    for kind in ("webhookmessage/N", "webhookendpoint/N", "replayjob/N", "task/N", "user/N"):
        assert any(f"/{kind}/change/" in found for found in kinds), (kind, sorted(kinds))
    leaks = [(page, secret) for page, html in pages.items() for secret in secrets if secret in html]
    assert leaks == []


@pytest.mark.django_db
def test_an_operation_puts_no_secret_on_record(admin_client: Client) -> None:
    """Shows that the record of a replay to another URL hides the secrets in that URL."""
    message = factories.make_message("dead")
    address = reverse("admin:webhooks_app_webhookmessage_replay", args=[message.pk])
    url = "https://backup.example.org/in?token=CANARYcanary"
    admin_client.post(address, {"reason": "elsewhere", "target_url": url})
    line = OperatorAction.objects.get()
    assert "backup.example.org" in line.target
    assert "CANARY" not in line.target


@pytest.mark.django_db
def test_guessing_a_password_is_slowed_down(client: Client) -> None:
    """Shows that login attempts are limited per address, and other addresses are not affected."""
    factories.make_staff("mara")
    guess = {"username": "mara", "password": "guess"}
    # Of this run alone: Redis remembers the one of a minute ago.
    address, other = (f"2001:db8::{secrets.token_hex(2)}:{n}" for n in (1, 2))
    for _ in range(AdminLoginThrottle.TRIES_PER_MINUTE):
        assert client.post(LOGIN, guess, REMOTE_ADDR=address).status_code == 200
    refused = client.post(LOGIN, {**guess, "password": "password"}, REMOTE_ADDR=address)
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) >= 1
    assert b"Wait a minute" in refused.content
    assert refused["Content-Type"].startswith("text/html")
    assert client.get(LOGIN, REMOTE_ADDR=address).status_code == 200
    right = client.post(LOGIN, {**guess, "password": "password"}, REMOTE_ADDR=other)
    assert right.status_code == 302


@pytest.mark.django_db
def test_cookies_and_headers_of_the_admin(client: Client) -> None:
    """Shows the flags of the session, and the headers that keep pages out of frames and caches."""
    factories.make_staff("mara")
    client.post(LOGIN, {"username": "mara", "password": "password"})
    for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME):
        assert client.cookies[name]["httponly"]
        assert client.cookies[name]["samesite"] == "Lax"
    answer = client.get("/admin/")
    policy = dict(
        part.strip().partition(" ")[::2] for part in answer["Content-Security-Policy"].split(";")
    )
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert policy["default-src"] == policy["media-src"] == policy["form-action"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_what_happens_to_operators_is_on_their_record(admin_client: Client) -> None:
    """Shows that creating, changing and deleting an operator are recorded, without a password."""
    add = {"username": "jon", "password1": "CANARY-secret", "password2": "CANARY-secret"}
    admin_client.post(reverse("admin:auth_user_add"), {**add, "usable_password": "true"})
    jon = get_user_model().objects.get(username="jon")
    change = reverse("admin:auth_user_password_change", args=[jon.pk])
    again = {"password1": "CANARY-other", "password2": "CANARY-other", "usable_password": "true"}
    admin_client.post(change, again)
    admin_client.post(reverse("admin:auth_user_delete", args=[jon.pk]), {"post": "yes"})
    lines = OperatorAction.objects.order_by("id").values_list("actor", "action", "target")
    assert list(lines) == [
        ("operator", "user.create", "jon"),
        ("operator", "user.change", "jon"),
        ("operator", "user.delete", "jon"),
    ]
    assert not OperatorAction.objects.filter(reason__contains="CANARY").exists()


@pytest.mark.django_db
@pytest.mark.django_db(transaction=True)
def test_a_nul_in_a_filter_is_no_fault_of_ours(admin_client: Client) -> None:
    """Text that PostgreSQL cannot store cannot be searched for: 400, and not 500."""
    for query in ("status__exact=%00", "q=%00", "o=%00", "created_at__gte=%00"):
        answer = admin_client.get(f"/admin/tasks_app/task/?{query}")
        assert answer.status_code in (200, 302, 400), query
    assert admin_client.get("/admin/tasks_app/task/?status__exact=%00").status_code == 400


def test_an_error_below_the_admin_is_a_page(admin_client: Client) -> None:
    """Shows that a person gets a page with a way back, not a problem document."""
    staff = Client()
    staff.force_login(factories.make_staff(is_superuser=False))
    absent = admin_client.get(reverse("admin:webhooks_app_webhookmessage_change", args=[999_999]))
    refused = staff.get(reverse("admin:webhooks_app_webhookmessage_changelist"))
    for answer, status in ((absent, 404), (refused, 403)):
        assert answer.status_code == status
        assert answer["Content-Type"].startswith("text/html")
        assert b"To the dashboard" in answer.content


@pytest.mark.django_db
def test_a_new_key_is_never_stored_and_both_doors_put_it_on_record(
    admin_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shows that the clear text is on one page and in no table, and that makers are recorded."""
    form = {"name": "from the admin", "scopes": ["read"], "callback_hosts": "", "reason": "a test"}
    shown = admin_client.post(reverse("admin:tasks_app_apikey_add"), form, follow=True)
    found = re.search(r"mv-key[^>]*>([^<]+)<", shown.content.decode())
    assert found
    call_command("create_api_key", "from the command")
    clear = capsys.readouterr().out.strip()
    sessions = [session.get_decoded() for session in Session.objects.all()]
    for key in (found[1], clear):
        prefix, _, secret = key.partition(".")
        assert ApiKey.objects.get_from_key(key).prefix == prefix
        assert secret not in str(sessions)
        call_command("create_api_key", "--revoke", prefix, "--reason", "a test")
    lines = OperatorAction.objects.order_by("id").values_list("action", "actor")
    who = f"command {getpass.getuser()}"
    assert list(lines) == [
        ("api_key.create", "operator"),
        *[("api_key.create", who), ("api_key.revoke", who), ("api_key.revoke", who)],
    ]
