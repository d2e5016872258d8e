"""Who may log in to the admin? Django's users and groups, in the theme's forms."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from webhooks_app.admin.base import record_action

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
            record_action(request, f"{obj._meta.model_name}.delete", str(obj), "")


@admin.register(User)
class UserAdmin(OnRecord, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ()


@admin.register(Group)
class GroupAdmin(OnRecord, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    filter_horizontal = ()
