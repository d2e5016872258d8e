"""How does an operator make, find, limit and revoke API keys? A key is shown only once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from tasks_app.access import keys
from tasks_app.models import ALL_SCOPES, ApiKey
from tasks_app.providers.prices import Money, amount_text
from tasks_app.state import costs, projects
from webhooks_app.admin.base import (
    Operation,
    ReadOnlyAdmin,
    ReasonForm,
    actor,
    shown_once,
    utc,
)
from webhooks_app.notation import PROJECT_ID, PROJECT_ID_SHAPE


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in ALL_SCOPES],
        initial=list(ALL_SCOPES),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="read; submit (also cancel, retry, acknowledge); "
        "admin (secrets, endpoints, replay).",
    )
    callback_hosts = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Hosts that callbacks may go to, separated by spaces; empty: any allowed one.",
    )
    retry_policy = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of tasks that name none: standard, durable, waits such as 1,2,4, [] for no "
        "retries; empty: the service's default.",
    )

    callback_auth = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="The credential that callbacks of its tasks carry, by name; empty: the "
        "project's. Not used for callbacks to origins it is not bound to.",
    )
    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Kept with your name in the operators' record.",
    )

    class Meta:
        model = ApiKey
        fields = [
            "name",
            "project_id",
            "scopes",
            "rate_limit_per_minute",
            "callback_hosts",
            "retry_policy",
            "callback_auth",
            "expiry_date",
        ]
        field_classes = {"expiry_date": forms.SplitDateTimeField}
        widgets = {
            "name": UnfoldAdminTextInputWidget,
            "project_id": UnfoldAdminTextInputWidget,
            "rate_limit_per_minute": UnfoldAdminIntegerFieldWidget,
            "expiry_date": UnfoldAdminSplitDateTimeWidget,
        }

    def clean_project_id(self) -> str | None:
        value = self.cleaned_data["project_id"]
        if value and not re.fullmatch(PROJECT_ID, value):
            raise forms.ValidationError(PROJECT_ID_SHAPE)
        return value or None

    def clean_expiry_date(self) -> datetime | None:
        value: datetime | None = self.cleaned_data["expiry_date"]
        if value and value <= timezone.now():
            raise forms.ValidationError("That is over already; a key ends in the future.")
        return value

    def clean_rate_limit_per_minute(self) -> int | None:
        value: int | None = self.cleaned_data["rate_limit_per_minute"]
        if value is not None and not 1 <= value <= keys.MAX_RATE_LIMIT:
            raise forms.ValidationError(f"From 1 to {keys.MAX_RATE_LIMIT:,}, or empty.")
        return value

    def clean_callback_hosts(self) -> list[str]:
        try:
            return keys.hosts_in(self.cleaned_data["callback_hosts"])
        except ValueError as error:
            raise forms.ValidationError(f"{error}.") from None

    def clean_retry_policy(self) -> str | list[float] | None:
        try:
            return keys.policy_in(self.cleaned_data["retry_policy"])
        except ValueError as error:
            raise forms.ValidationError(f"{error}.") from None

    def clean_callback_auth(self) -> str:
        try:
            project = self.cleaned_data.get("project_id")
            return keys.auth_in(self.cleaned_data["callback_auth"], project)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class BudgetForm(ReasonForm):
    """Asks for what a key may spend in a month."""

    budget = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget,
        help_text="For each month in UTC, such as 250.00 USD; none for no budget of its own.",
    )
    field_order = ("budget", "reason")

    def clean_budget(self) -> Money | None:
        try:
            return projects.budget_in(self.cleaned_data["budget"])
        except ValueError as error:
            raise forms.ValidationError(f"Such as 250.00 USD, or none: {error}") from None


def _budget_text(row: ApiKey) -> str:
    if row.budget_amount is None:
        return "none"
    return f"{amount_text(row.budget_amount)} {row.budget_currency}"


def _budget_standing(row: ApiKey) -> str:
    """Return a key's budget and how it stands in this month."""
    if row.budget_amount is None:
        return "none"
    found = costs.of_key(row.prefix, Money(row.budget_amount, row.budget_currency))
    return (
        f"{_budget_text(row)} a month: {amount_text(found.spent)} spent,"
        f" {amount_text(found.reserved)} reserved, {amount_text(found.left.amount)} left"
    )


def _set_budget(request: HttpRequest, row: ApiKey, cleaned: dict[str, Any]) -> str:
    if not projects.change_key_budget(
        row.prefix, cleaned["budget"], actor=actor(request), reason=cleaned["reason"]
    ):
        raise ValueError(f"{row} is revoked.")
    row.refresh_from_db()
    return f"The budget of {row} is {_budget_text(row)}, from the next submit on."


def _revoke(request: HttpRequest, row: ApiKey, cleaned: dict[str, Any]) -> str:
    keys.revoke(row.prefix, actor=actor(request), reason=cleaned["reason"])
    return f"{row} is revoked; requests with it are refused from now on."


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Keys can be made and revoked, and given a budget; nothing else about them can be changed."""

    class Media:
        js = ("webhooks_app/live.js",)

    form = KeyForm
    page_template = "tasks_app/api_key.html"
    list_display = ["name", "prefix", "project", "may", "shown_state", "at_used", "at_made"]
    list_filter = ["revoked"]
    search_fields = ["prefix__exact", "name__startswith", "project_id__exact"]
    search_help_text = "Prefix, beginning of the name, or project"
    ordering = ["-created"]
    at_used = utc("last_used_at", "last used")
    at_made = utc("created", "made")
    operations = (
        Operation(
            "budget",
            "Set budget",
            "tasks_app.change_apikey",
            "What may be spent with this key in a month. Tasks that were accepted go on.",
            _set_budget,
            form=BudgetForm,
            is_offered=lambda row: not row.revoked,
            icon="payments",
            initial=lambda row: {"budget": _budget_text(row)},
        ),
        Operation(
            "revoke",
            "Revoke",
            "tasks_app.change_apikey",
            "Requests with this key are refused within a second. It cannot be brought back.",
            _revoke,
            is_offered=lambda row: not row.revoked,
            icon="block",
            is_dangerous=True,
        ),
    )

    def __init__(self, model: type[ApiKey], site: admin.AdminSite) -> None:
        super().__init__(model, site)
        self.change_form_template = None  # the form for a new key; existing keys have a page

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tasks_app.add_apikey"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [(None, {"fields": [*KeyForm.Meta.fields, "reason"]})] if obj is None else []

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make the key and show its clear text, only now."""
        clear = keys.issue(obj, actor=actor(request), reason=form.cleaned_data["reason"])
        messages.warning(request, shown_once(f"This is the key of “{obj.name}”.", clear))

    def page_context(self, request: HttpRequest, row: ApiKey) -> dict[str, Any]:
        tone, words = self.shown_state(row)
        facts = {"may": self.may(row), "budget": _budget_standing(row)}
        return {"title": row.name, "tone": tone, "words": words, **facts}

    def log_addition(self, *args: Any, **kwargs: Any) -> Any:
        """Write no LogEntry: `OperatorAction` is the record."""

    @display(description="project")
    def project(self, row: ApiKey) -> str:
        return row.project_id or "all"

    @display(description="may")
    def may(self, row: ApiKey) -> str:
        return ", ".join(row.scopes)

    @display(description="state", label={"success": "success", "danger": "danger"})
    def shown_state(self, row: ApiKey) -> Sequence[str]:
        if row.revoked:
            return "danger", "revoked"
        return ("danger", "expired") if row.has_expired else ("success", "active")
