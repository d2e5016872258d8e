"""Who may log in to the admin, and where are the pages of what is on their record?

Django's users and groups, in the theme's forms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.urls import reverse
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tasks_app.models import ApiKey, RemoteServer, Task
from webhooks_app.admin.base import record_action
from webhooks_app.admin.operator_actions import finders, named, pages
from webhooks_app.models import OperatorAction
from webhooks_app.notation import UUID_TEXT

admin.site.unregister(User)
admin.site.unregister(Group)


def _sentence(message: Any) -> str:
    """Return Django's description of a change, without the values."""
    text = message if isinstance(message, str) else json.dumps(message)
    return LogEntry(action_flag=CHANGE, change_message=text).get_change_message()


class OnRecord:
    """Records changes of users and groups as operator actions, instead of in Django's own log."""

    def log_addition(self, request: Any, obj: Any, message: Any) -> None:
        record_action(request, f"{obj._meta.model_name}.create", str(obj), _sentence(message))

    def log_change(self, request: Any, obj: Any, message: Any) -> None:
        record_action(request, f"{obj._meta.model_name}.change", str(obj), _sentence(message))

    def log_deletions(self, request: Any, queryset: Any) -> None:
        for obj in queryset:
            record_action(
                request, f"{obj._meta.model_name}.delete", str(obj), "deleted in the admin"
            )


def _tasks(rows: Sequence[OperatorAction]) -> dict[int, str]:
    ids = {row: match[1] for row, match in named(rows, rf"({UUID_TEXT})\b", "task.").items()}
    present = Task.objects.filter(pk__in=ids.values()).values_list("pk", flat=True)
    return pages(ids, "tasks_app_task", {str(key) for key in present} if ids else set())


def _keys(rows: Sequence[OperatorAction]) -> dict[int, str]:
    found = named(rows, r".*\(([A-Za-z0-9]{1,16})\)(?:$|:)", "api_key.")
    ids = {row: match[1] for row, match in found.items()}
    present = ApiKey.objects.filter(pk__in=ids.values()).values_list("pk", flat=True)
    return pages(ids, "tasks_app_apikey", set(present) if ids else set())


def _servers(rows: Sequence[OperatorAction]) -> dict[int, str]:
    ids = {row: match[0] for row, match in named(rows, r"\S+/\S+", "remote_server.").items()}
    known = {str(server): server.pk for server in RemoteServer.objects.all()} if ids else {}
    keys = {row: known.get(name) for row, name in ids.items()}
    return pages(keys, "tasks_app_remoteserver", set(known.values()))


def _names(rows: Sequence[OperatorAction]) -> dict[int, str]:
    """Return the lists in which users, groups and projects are found by name."""
    lists = {"user": "auth_user", "group": "auth_group", "project": "tasks_app_project"}
    return {
        row.pk: reverse(f"admin:{lists[kind]}_changelist") + "?" + urlencode({"q": name})
        for row in rows
        if (kind := row.action.partition(".")[0]) in lists
        and (name := row.target.partition(":")[0])
    }


finders += [_tasks, _keys, _servers, _names]


@admin.register(User)
class UserAdmin(OnRecord, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ()


@admin.register(Group)
class GroupAdmin(OnRecord, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    filter_horizontal = ()
