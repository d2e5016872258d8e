"""What do the admin's first page and its sidebar show? Tasks and webhooks together."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse_lazy
from django.utils import timezone

from tasks_app.admin.dashboard import task_charts
from webhooks_app.admin.dashboard import RANGES, range_of, webhook_charts


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the charts; unfold calls this for the index page."""
    chosen, now = range_of(request.GET.get("range")), timezone.now()
    webhooks, tasks = webhook_charts(chosen, now), task_charts(chosen, now)
    context |= {
        "webhooks": webhooks,
        "tasks": tasks,
        "cards": webhooks["cards"] + tasks["cards"],
        "ranges": list(RANGES),
        "chosen": chosen.name,
        "stretch": chosen.words,
        "may_see": request.user.has_perm("webhooks_app.view_webhookmessage"),
    }
    return context


def environment(request: HttpRequest) -> list[str]:
    """Return the label beside the title, which tells production from other installations."""
    return ["Production", "danger"] if settings.IS_PRODUCTION else ["Development", "info"]


def _item(title: str, icon: str, model: str) -> dict[str, Any]:
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{name}"),
    }


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar, in the order an operator needs it."""
    home = {"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")}
    return [
        {"items": [home]},
        {
            "title": "Tasks",
            "items": [
                _item("Tasks", "movie", "tasks_app.task"),
                _item("Assets", "perm_media", "tasks_app.mediafile"),
                _item("Remote jobs", "cloud_sync", "tasks_app.remotejob"),
                _item("Remote servers", "memory", "tasks_app.remoteserver"),
                _item("Costs", "payments", "tasks_app.cost"),
                _item("Projects", "folder", "tasks_app.project"),
            ],
        },
        {
            "title": "Webhooks",
            "items": [
                _item("Messages", "outbox", "webhooks_app.webhookmessage"),
                _item("Deliveries", "local_shipping", "webhooks_app.webhookdelivery"),
                _item("Destinations", "dns", "webhooks_app.webhookdestination"),
                _item("Endpoints", "webhook", "webhooks_app.webhookendpoint"),
                _item("Credentials", "vpn_key", "webhooks_app.credential"),
                _item("Replays", "replay", "webhooks_app.replayjob"),
            ],
        },
        {
            "title": "Access",
            "items": [
                _item("API keys", "key", "tasks_app.apikey"),
                _item("Operators", "person", "auth.user"),
                _item("Groups", "group", "auth.group"),
                _item("Operators' record", "history_edu", "webhooks_app.operatoraction"),
            ],
        },
    ]
