"""Do signing secrets rotate in the admin, shown once, with the permission for it, on record?"""

from __future__ import annotations

import re
import uuid

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from tests.support import factories
from tests.support.factories import PROJECT
from webhooks_app.models import OperatorAction, SigningSecret
from webhooks_app.signing import store

pytestmark = pytest.mark.django_db


def address(name: str, *arguments: object) -> str:
    return reverse(f"admin:webhooks_app_webhookendpoint_{name}", args=arguments)


def shown(client: Client, page: str, form: dict[str, str]) -> str:
    """Send a form; return the secret that the next page shows, and see that it is the only one."""
    answer = client.post(page, form, follow=True)
    found = re.search(r"mv-key>(whsec_[^<]+)<.*data-copy", answer.content.decode())
    assert found, answer.content.decode()[-3000:]
    again = client.get(answer.redirect_chain[-1][0]).content.decode()
    assert "whsec_" not in again
    assert "webhooks_app/live" in answer.content.decode(), "the button needs its script"
    return found[1]


def test_an_endpoint_and_a_project_get_new_secrets(admin_client: Client) -> None:
    """Proves the overlap that was chosen, the line in the record, and that each is shown once."""
    endpoint = factories.make_endpoint()
    old, olds = store.get_or_create(PROJECT), store.get_or_create(PROJECT, endpoint.pk)
    asked = {"overlap": "3600", "reason": "a year is over"}
    new = shown(admin_client, address("rotate", endpoint.pk), asked)
    assert store.current_secrets(PROJECT, endpoint.pk) == [new, olds]
    asked = {"overlap": "0", "reason": "it has leaked", "project": PROJECT}
    newest = shown(admin_client, address("rotate_of_project_form"), asked)
    assert store.current_secrets(PROJECT) == [newest]
    assert old != newest
    lines = OperatorAction.objects.filter(action="secret.rotate").order_by("id")
    assert list(lines.values_list("actor", "reason", "scope")) == [
        ("operator", "a year is over", PROJECT),
        ("operator", "it has leaked", PROJECT),
    ]


def test_nothing_rotates_without_a_reason_a_permission_or_a_project(admin_client: Client) -> None:
    """Proves the refusals; a permission to change endpoints is not enough."""
    endpoint = factories.make_endpoint()
    pages = address("rotate", endpoint.pk), address("rotate_of_project_form")
    editor = factories.make_staff("editor", is_superuser=False)
    editor.user_permissions.set(Permission.objects.filter(codename__endswith="_webhookendpoint"))
    client = Client()
    client.force_login(editor)
    form = {"overlap": "0", "reason": "x", "project": PROJECT}
    for page in pages:
        assert client.get(page).status_code == client.post(page, form).status_code == 403
        answer = admin_client.post(page, {**form, "reason": ""})
        assert answer.context["form"].errors["reason"]
    absent = admin_client.post(pages[1], {**form, "project": "no_such_project"})
    assert "Nothing was ever sent" in absent.content.decode()
    assert admin_client.get(address("rotate", uuid.uuid4())).status_code == 404
    assert not SigningSecret.objects.exists()
