"""What may an operator with read permission do? Only read, whatever the buttons say."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from tasks_app.models import ApiKey
from tests.support import factories
from webhooks_app.models import OperatorAction, ReplayJob, WebhookMessage

pytestmark = pytest.mark.django_db
REPLAY_PAGE = "admin:webhooks_app_webhookmessage_replay_with_filter_form"
LIST = "admin:webhooks_app_webhookmessage_changelist"


def client_with(*codenames: str) -> Client:
    """Log in an operator who may view everything, and has the named permissions."""
    staff = factories.make_staff(is_superuser=False)
    view = Permission.objects.filter(
        codename__startswith="view_", content_type__app_label__in=("webhooks_app", "tasks_app")
    )
    staff.user_permissions.set([*view, *Permission.objects.filter(codename__in=codenames)])
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def onlooker(db: None) -> Client:
    """An operator who may only view."""
    return client_with()


def operations() -> list[tuple[str, Any]]:
    """Return the name of every operation's URL, with a row for which it is offered."""
    from django.contrib import admin

    from webhooks_app.admin.base import ReadOnlyAdmin

    makers: dict[str, Any] = {
        "webhookmessage": lambda: factories.make_message("dead"),
        "webhookdestination": factories.make_destination,
        "webhookendpoint": lambda: factories.make_endpoint(f"https://{uuid.uuid4()}.example.org/"),
        "credential": lambda: factories.make_credential(f"door-{uuid.uuid4()}"),
        "replayjob": factories.make_replay,
        "task": factories.make_task,
        "remoteserver": factories.make_remote_server,
        "apikey": lambda: factories.make_api_key()[0],
    }
    return [
        (f"admin:{opts.app_label}_{opts.model_name}_{operation.name}", makers[opts.model_name])
        for model_admin in admin.site._registry.values()
        if isinstance(model_admin, ReadOnlyAdmin) and model_admin.operations
        for operation in model_admin.operations
        for opts in [model_admin.opts]
    ]


def test_an_onlooker_sees_every_page_and_no_button(onlooker: Client) -> None:
    """Shows that viewing needs only the permission to view."""
    for name, make in operations():
        page = reverse(f"{name.rpartition('_')[0]}_change", args=[make().pk])
        answer = onlooker.get(page)
        assert answer.status_code == 200, page
        assert b"data-operation" not in answer.content, page
    listed = onlooker.get(reverse(LIST)).content
    assert b"Replay with filter" not in listed
    assert b"replay_selected" not in listed


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_onlooker_is_refused_every_operation(onlooker: Client, method: str) -> None:
    """Shows that each operation's URL answers 403 and does nothing."""
    for name, make in operations():
        address = reverse(name, args=[make().pk])
        answer = getattr(onlooker, method)(address, {"reason": "x"})
        assert answer.status_code == 403, address
    assert getattr(onlooker, method)(reverse(REPLAY_PAGE), {"reason": "x"}).status_code == 403
    assert not OperatorAction.objects.exists()
    assert not ReplayJob.objects.exclude(requested_by="operator").exists()


@pytest.mark.parametrize("action", ["replay_selected", "set_selected_aside"])
def test_a_forged_selection_changes_nothing(onlooker: Client, action: str) -> None:
    """Shows that the action is refused, not only hidden in the menu."""
    message = factories.make_message("dead")
    forged = {
        "action": action, "_selected_action": [message.pk],
        "confirmed": "1", "reason": "x",
    }  # fmt: skip
    onlooker.post(reverse(LIST), forged)
    assert WebhookMessage.objects.get().status == "dead"
    assert not ReplayJob.objects.exists()


def test_the_permission_to_replay_is_one_of_its_own() -> None:
    """Shows that it allows replays and nothing else."""
    client = client_with("replay_webhooks")
    message = factories.make_message("dead")
    page = reverse("admin:webhooks_app_webhookmessage_change", args=[message.pk])
    assert b'data-operation="replay"' in client.get(page).content
    assert b"Replay with filter" in client.get(reverse(LIST)).content
    replay = reverse("admin:webhooks_app_webhookmessage_replay", args=[message.pk])
    assert client.post(replay, {"reason": "x"}).status_code == 302
    assert WebhookMessage.objects.get().status == "pending"
    pause = reverse("admin:webhooks_app_webhookdestination_pause", args=[message.destination_id])
    assert client.post(pause, {"reason": "x", "minutes": 5}).status_code == 403


def test_an_onlooker_makes_no_keys(onlooker: Client) -> None:
    """Shows that making and revoking keys need permissions, too."""
    address = reverse("admin:tasks_app_apikey_add")
    assert onlooker.get(address).status_code == 403
    assert onlooker.post(address, {"name": "x", "scopes": ["read"]}).status_code == 403
    assert not ApiKey.objects.exists()


def test_every_operation_asks_for_a_reason(admin_client: Client) -> None:
    """Shows that nothing happens without a reason, nor by a GET."""
    for name, make in operations():
        address = reverse(name, args=[make().pk])
        assert admin_client.get(address).status_code == 200, address
        answer = admin_client.post(address, {"reason": " ", "minutes": 5})
        assert answer.status_code == 200, address
        assert b"This field is required" in answer.content, address
    assert not OperatorAction.objects.exists()
