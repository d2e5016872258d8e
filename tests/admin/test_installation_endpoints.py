"""Can an operator subscribe the installation itself to meta events, in the admin?"""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from tests.support import factories
from webhooks_app.models import OperatorAction, WebhookEndpoint
from webhooks_app.signing import store

pytestmark = pytest.mark.django_db
ADD = "/admin/webhooks_app/webhookendpoint/add/"
URL = "http://127.0.0.1:9/ops"


def test_an_endpoint_without_a_project_is_made(client: Client) -> None:
    """It is made under the rules for every URL; its secret is shown once, and it is on record."""
    client.force_login(factories.make_staff("operator"))
    form = {"url": "http://10.0.0.1/", "event_types": ["endpoint.failing"], "description": "pager"}
    assert client.post(ADD, form).status_code == 200
    assert not WebhookEndpoint.objects.exists()
    answer = client.post(ADD, {**form, "url": URL}, follow=True)
    made = WebhookEndpoint.objects.get()
    assert (made.scope, made.url, made.event_types) == ("", URL, ["endpoint.failing"])
    secret = store.get_or_create("", made.pk)
    assert secret in answer.content.decode()
    page = client.get(reverse("admin:webhooks_app_webhookendpoint_change", args=[made.pk]))
    assert secret not in page.content.decode()
    assert "installation" in page.content.decode()
    again = client.post(ADD, {**form, "url": URL}).content.decode()
    assert "There is an endpoint with that URL already." in again
    record = OperatorAction.objects.get()
    assert (record.actor, record.action) == ("operator", "endpoint.create")


def test_who_may_only_look_makes_none(client: Client) -> None:
    """The form needs the permission to add endpoints."""
    viewer = factories.make_staff("viewer", is_superuser=False)
    client.force_login(viewer)
    assert client.get(ADD).status_code == 403
    assert not re.search("webhookendpoint/add", client.get("/admin/").content.decode())
