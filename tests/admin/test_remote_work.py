"""Can an operator see work at providers, find what may cost money, and pause a server?"""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tasks_app.models import RemoteServer
from tests.support import factories
from webhooks_app.models import OperatorAction

pytestmark = pytest.mark.django_db
JOBS = "admin:tasks_app_remotejob_changelist"
SERVERS = "admin:tasks_app_remoteserver_changelist"


def listed(client: Client, **query: str) -> set[str]:
    """Return the ids of the jobs on the list."""
    answer = client.get(reverse(JOBS), query)
    assert answer.status_code == 200
    return set(re.findall(r"remotejob/([0-9a-f-]{36})/change", answer.content.decode()))


def test_filters_find_what_may_cost_money(admin_client: Client) -> None:
    """Each filter finds its jobs and no others; a stop that was told is not owed any more."""
    made = {
        "owed": factories.make_remote_job("stopping"),
        "told": factories.make_remote_job("stopping", stop_told_at=factories.timezone.now()),
        "unclear": factories.make_remote_job("ended", outcome="unclear"),
        "unstopped": factories.make_remote_job("ended", outcome="unstopped"),
        "gpu": factories.make_remote_job("running", provider="comfyui", server="gpu-1"),
        "other": factories.make_remote_job("running", provider="comfyui", server="gpu-2"),
    }

    def found(**query: str) -> set[str]:
        ids = listed(admin_client, **query)
        return {name for name, job in made.items() if str(job.pk) in ids}

    assert found() == set(made)
    assert found(care="stop") == {"owed"}
    assert found(care="unclear") == found(outcome="unclear") == {"unclear"}
    assert found(care="unstopped") == {"unstopped"}
    assert found(state="stopping") == {"owed", "told"}
    assert found(provider="comfyui") == {"gpu", "other"}
    assert found(server="comfyui/gpu-1") == {"gpu"}
    assert found(server="comfyui/gpu-1", state="ended") == set()
    assert found(q=str(made["gpu"].task_id)) == found(q=str(made["gpu"].pk)) == {"gpu"}
    assert found(q="nonsense") == set()


def test_a_job_and_its_task_lead_to_each_other(admin_client: Client) -> None:
    """Both pages link; the provider's words are there as text, and what opens doors is not."""
    job = factories.make_remote_job(
        "ended",
        outcome="failed",
        note="<script>alert(1)</script> out of memory",
        outputs=["https://cdn.example.org/x?signature=canary"],
        callback_token="canary" * 8,
    )
    page = reverse("admin:tasks_app_remotejob_change", args=[job.pk])
    task_page = reverse("admin:tasks_app_task_change", args=[job.task_id])
    shown = admin_client.get(page).content.decode()
    assert task_page in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; out of memory" in shown
    assert page in admin_client.get(task_page).content.decode()
    for address in (page, task_page, reverse(JOBS)):
        text = admin_client.get(address).content.decode()
        assert "canary" not in text
        assert "<script>alert" not in text


def test_nothing_here_can_be_made_changed_or_deleted(admin_client: Client) -> None:
    """Jobs and servers are read-only, for the most powerful operator too."""
    job = factories.make_remote_job()
    for name, row in (("remotejob", job), ("remoteserver", RemoteServer.objects.get())):
        base = f"admin:tasks_app_{name}"
        assert admin_client.get(reverse(f"{base}_add")).status_code == 403
        assert admin_client.post(reverse(f"{base}_delete", args=[row.pk])).status_code == 403
    assert (
        admin_client.get(reverse("admin:tasks_app_remotejob_change", args=["x"])).status_code == 404
    )


def test_pause_and_resume_go_on_record(admin_client: Client) -> None:
    """Who and why are stored, once; nothing happens twice, or without a reason."""
    server = factories.make_remote_server()

    def act(name: str, reason: str) -> bool:
        address = reverse(f"admin:tasks_app_remoteserver_{name}", args=[server.pk])
        admin_client.post(address, {"reason": reason})
        server.refresh_from_db()
        return server.is_paused

    assert act("pause", "  ") is False
    assert act("pause", "new driver") is True
    assert act("pause", "again") is True
    assert act("resume", "") is True
    assert act("resume", "the driver is in") is False
    who, target = "operator", "replicate/replicate"
    assert list(
        OperatorAction.objects.order_by("id").values_list("actor", "action", "target", "reason")
    ) == [
        (who, "remote_server.pause", target, "new driver"),
        (who, "remote_server.resume", target, "the driver is in"),
    ]
    page = reverse("admin:tasks_app_remoteserver_change", args=[server.pk])
    assert "the driver is in" in admin_client.get(page).content.decode()


def test_the_list_of_servers_says_how_each_stands(admin_client: Client, settings: Any) -> None:
    """Running jobs, both limits, owed stops and the last error of a server are on its row."""
    options = {"model": "acme/painter", "concurrency": 7}
    settings.GENERATION_PROVIDERS = {
        "image_generation": {"provider": "replicate", "options": options}
    }
    factories.make_remote_server(learned_limit=5, last_error="it is full")
    for _ in range(3):
        factories.make_remote_job()
    factories.make_remote_job("stopping")
    factories.make_remote_job("ready")
    factories.make_remote_job("ended")
    factories.make_remote_server("comfyui", "gone")
    text = admin_client.get(reverse(SERVERS)).content.decode()
    cells = {
        name: re.sub(r"<[^>]+>", "", value).strip()
        for name, value in re.findall(
            r'<td class="[^"]*field-(\w+)[^>]*>(.*?)</td>',
            text[text.index("replicate/replicate") :],
            re.S,
        )
    }
    assert cells["running"] == "4"
    assert cells["limits"] == "7 / 5"
    assert cells["stops"].startswith("1 for ")
    assert cells["error"] == "it is full"
    assert "not configured" in text


def test_a_keys_budget_is_set_and_shown(admin_client: Client) -> None:
    """Amount, standing and record; what is no budget is told, and a revoked key has no button."""
    key = factories.make_api_key()[0]
    page = reverse("admin:tasks_app_apikey_change", args=[key.pk])
    address = reverse("admin:tasks_app_apikey_budget", args=[key.pk])

    def act(budget: str, reason: str = "agreed") -> str:
        form = {"budget": budget, "reason": reason}
        return admin_client.post(address, form, follow=True).content.decode()

    assert "<dt>Budget</dt><dd>none</dd>" in admin_client.get(page).content.decode()
    assert "Such as 250.00 USD, or none" in act("20 dollars")
    act("20 USD", reason=" ")
    key.refresh_from_db()
    assert key.budget_amount is None
    assert "is 20.00 USD, from the next submit on" in act("20 USD")
    shown = "20.00 USD a month: 0.00 spent, 0.00 reserved, 20.00 left"
    assert shown in admin_client.get(page).content.decode()
    (noted,) = OperatorAction.objects.filter(action="api_key.budget")
    assert (noted.actor, noted.reason) == ("operator", "agreed")
    act("none")
    key.refresh_from_db()
    assert (key.budget_amount, key.budget_currency) == (None, "")
    type(key).objects.update(revoked=True)
    assert address not in admin_client.get(page).content.decode()
