"""Can an operator add, change, try out and delete credentials in the admin, and read no secret?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support import factories
from tests.support.factories import PROJECT
from tests.support.receiver import Receiver
from webhooks_app.admin.credentials import certificate_state
from webhooks_app.credentials import unseal
from webhooks_app.models import Credential, OperatorAction
from webhooks_app.signing.store import get_or_create

pytestmark = pytest.mark.django_db
ORIGIN = "https://receiver.example.org"
NEW = "admin:webhooks_app_credential_new_form"
SECRET = "s3cr3t-" + "z" * 20
#: Kind -> what an operator fills in.
FILLED: dict[str, dict[str, str]] = {
    "headers": {"headers": f"X-Api-Key: {SECRET}\r\nX-Tenant: a b"},
    "bearer": {"token": SECRET},
    "basic": {"username": "us", "password": SECRET},
    "oauth2": {
        "token_url": "https://login.example.org/token",
        "client_id": "us",
        "client_secret": SECRET,
        "client_auth": "body",
    },
}


def page(name: str, row: Credential) -> str:
    return reverse(f"admin:webhooks_app_credential_{name}", args=[row.pk])


def add(client: Client, kind: str, **more: str) -> Any:
    base = {"project": PROJECT, "name": kind, "origins": ORIGIN, "reason": "their gateway"}
    asked = {**base, **FILLED[kind], **more}
    return client.post(f"{reverse(NEW)}?kind={kind}", asked, follow=True)


def test_the_usual_address_leads_to_the_form(admin_client: Client) -> None:
    """Whoever types `add/`, as for every other page of the admin, comes to the form."""
    there = admin_client.get("/admin/webhooks_app/credential/add/", follow=True)
    assert (there.status_code, there.redirect_chain[-1][0]) == (200, reverse(NEW))


@pytest.mark.parametrize("kind", FILLED)
def test_a_credential_is_added_and_no_page_shows_its_secret(
    admin_client: Client, kind: str
) -> None:
    """Each kind has a form of its own; its page, its list and its change form hold no secret."""
    chosen = admin_client.post(reverse(NEW), {"kind": kind})
    assert chosen["Location"].endswith(f"?kind={kind}")
    shown = add(admin_client, kind)
    row = Credential.objects.get()
    assert (row.kind, row.origins) == (kind, [ORIGIN])
    assert SECRET in str(unseal(row))
    listed = admin_client.get(reverse("admin:webhooks_app_credential_changelist"))
    change = admin_client.get(page(f"change-{kind}", row))
    for answer in (shown, listed, change):
        assert answer.status_code == 200
        assert SECRET not in answer.content.decode()
    assert OperatorAction.objects.get().reason == "their gateway"


def test_what_is_wrong_is_said_beside_its_field(admin_client: Client) -> None:
    """A reserved header, a path as an origin and a name that is taken are told; nothing is kept."""
    bad = add(admin_client, "headers", headers=f"Host: {SECRET}", origins=f"{ORIGIN}/path")
    assert b"The header host is the service&#x27;s own" in bad.content
    away = add(admin_client, "bearer", origins=f"{ORIGIN}/path")
    assert b"an origin ends behind its host or port" in away.content
    assert SECRET not in away.content.decode()
    assert Credential.objects.count() == 0
    factories.make_credential("bearer")
    assert b"has a credential &#x27;bearer&#x27; already" in add(admin_client, "bearer").content


def test_a_credential_is_changed_and_deleted(admin_client: Client) -> None:
    """What stays empty stays; a new origin needs the secret; what is in use is kept."""
    row = factories.make_credential()
    change = page("change-bearer", row)
    filled = {"origins": "", "token": "another", "reason": "rotated"}
    assert b"The credential is changed" in admin_client.post(change, filled, follow=True).content
    row.refresh_from_db()
    assert (unseal(row), row.origins, row.version) == ({"token": "another"}, [ORIGIN], 2)
    away = {"origins": "https://thief.example.org", "token": "", "reason": "x"}
    refused = admin_client.post(change, away, follow=True).content
    assert b"nobody may have a secret sent elsewhere" in refused
    endpoint = factories.make_endpoint()
    door = reverse("admin:webhooks_app_webhookendpoint_credential", args=[endpoint.pk])
    done = admin_client.post(door, {"callback_auth": "door", "reason": "x"}, follow=True)
    assert b"New events carry the credential door" in done.content
    kept = admin_client.post(page("remove", row), {"reason": "x"}, follow=True).content
    assert b"It is used by 1 endpoint." in kept
    admin_client.post(door, {"callback_auth": "", "reason": "x"})
    gone = admin_client.post(page("remove", row), {"reason": "x"}, follow=True)
    assert b"The credential door is deleted." in gone.content
    assert Credential.objects.count() == 0


def test_a_test_is_sent_and_its_answer_shown(admin_client: Client) -> None:
    """The button sends one signed ping and says what came back, good or bad."""
    with Receiver([200, 403], secret=get_or_create(PROJECT)) as receiver:
        row = factories.make_credential(origins=[receiver.url.removesuffix("/hook")])
        asked = {"url": receiver.url, "reason": "is it right?"}
        good = admin_client.post(page("test", row), asked, follow=True).content
        bad = admin_client.post(page("test", row), asked, follow=True).content
    assert b"Delivered: status 200" in good
    assert b"Not delivered: status 403" in bad
    assert all(request.is_verified for request in receiver.requests)


def test_a_badge_warns_before_a_certificate_ends(admin_client: Client) -> None:
    """The list tells a certificate that ends soon, and one that has ended, from a good one."""
    now = timezone.now()
    for days, name in ((-1, "over"), (10, "soon"), (100, "good")):
        row = factories.make_credential(name)
        Credential.objects.filter(pk=row.pk).update(expires_at=now + timedelta(days=days))
    listed = admin_client.get(reverse("admin:webhooks_app_credential_changelist"))
    shown = listed.content.decode()
    assert f"ended {now - timedelta(days=1):%Y-%m-%d}" in shown
    assert f"ends {now + timedelta(days=10):%Y-%m-%d}" in shown
    rows = Credential.objects.order_by("name")
    tones = [certificate_state(row)[0] for row in rows]
    assert tones == ["ok", "over", "soon"]


def test_keys_and_projects_name_a_credential_that_exists(admin_client: Client) -> None:
    """Their forms refuse an unknown name, and keep a known one."""
    key = {
        "name": "k",
        "project_id": PROJECT,
        "scopes": ["read"],
        "callback_auth": "door",
        "reason": "x",
    }
    project = {"id": PROJECT, "callback_auth": "door", "reason": "x"}
    for form, given in (("tasks_app_apikey", key), ("tasks_app_project", project)):
        refused = admin_client.post(reverse(f"admin:{form}_add"), given)
        assert b"The project has no credential of this name" in refused.content
    factories.make_credential()
    for form, given in (("tasks_app_apikey", key), ("tasks_app_project", project)):
        assert admin_client.post(reverse(f"admin:{form}_add"), given).status_code == 302


def test_a_message_tells_its_credential(admin_client: Client) -> None:
    """Its page names what the requests carry, or what they go without."""
    for name, text in (("door", "<code>door</code>"), ("-door", "without <code>door</code>")):
        row = factories.make_message(callback_auth=name)
        page = reverse("admin:webhooks_app_webhookmessage_change", args=[row.pk])
        assert text in admin_client.get(page).content.decode()
