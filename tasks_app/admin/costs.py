"""What does an operator see of money: what was booked, and what each project may spend?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from tasks_app.models import Cost, CostBasis, Project
from tasks_app.providers.prices import Money, amount_in, amount_text, currency_in
from tasks_app.state import costs, projects
from tasks_app.state.find import search_costs
from webhooks_app.admin.base import ReadOnlyAdmin, actor, utc
from webhooks_app.admin.lists import SEARCHED_BY, KnownValuesFilter
from webhooks_app.notation import PROJECT_ID, PROJECT_ID_SHAPE
from webhooks_app.operators.credentials import NotBound, check_known

TONES = {"measured": "success", "estimated": "info", "unclear": "warning"}


class BasisFilter(KnownValuesFilter):
    title = "basis"
    parameter_name = column = "basis"
    values = CostBasis.choices


@admin.register(Cost)
class CostAdmin(ReadOnlyAdmin):
    """The ledger: what was booked, newest first. "Unclear" may not have been paid."""

    list_display = ["at_booked", "project_id", "money", "shown_basis", "provider", "model"]
    list_display_links = ["at_booked"]
    list_filter = [BasisFilter]
    search_fields = ["task_id"]
    search = staticmethod(search_costs)
    search_help_text = SEARCHED_BY
    ordering = ["-booked_at", "-id"]
    at_booked = utc("booked_at", "booked")

    @display(description="amount")
    def money(self, row: Cost) -> str:
        return f"{amount_text(row.amount)} {row.currency}"

    @display(description="basis", label=TONES)
    def shown_basis(self, row: Cost) -> Sequence[str]:
        return row.basis, row.get_basis_display()


class ProjectForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Kept with your name in the operators' record.",
    )

    class Meta:
        model = Project
        fields = ["id", "budget_amount", "budget_currency", "asset_quota_bytes", "callback_auth"]
        widgets = {
            "callback_auth": UnfoldAdminTextInputWidget,
            "id": UnfoldAdminTextInputWidget,
            "budget_amount": UnfoldAdminTextInputWidget,
            "budget_currency": UnfoldAdminTextInputWidget,
            "asset_quota_bytes": UnfoldAdminIntegerFieldWidget,
        }

    def clean_id(self) -> str:
        if not re.fullmatch(PROJECT_ID, self.cleaned_data["id"]):
            raise forms.ValidationError(PROJECT_ID_SHAPE)
        return str(self.cleaned_data["id"])

    def clean(self) -> dict[str, Any]:
        """Read the budget; amount and currency belong together. Check the credential's name."""
        given = super().clean() or {}
        if name := given.get("callback_auth"):
            try:
                check_known(given.get("id") or self.instance.pk, name)
            except NotBound as refused:
                self.add_error("callback_auth", str(refused))
        amount, currency = given.get("budget_amount"), given.get("budget_currency")
        given["budget"] = None
        if amount is not None or currency:
            try:
                text = "" if amount is None else f"{amount:f}"
                given["budget"] = Money(amount_in(text), currency_in(currency))
            except ValueError as error:
                raise forms.ValidationError(f"The budget: {error}") from None
        return given


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    """What is set for projects, and how their budgets stand; others have no row here."""

    form = ProjectForm
    list_display = ["id", "budget", "spent", "reserved", "left", "asset_quota_bytes"]
    search_fields = ["id__startswith"]
    search_help_text = "Beginning of the project's id"
    ordering = ["id"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tasks_app.add_project"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("tasks_app.change_project"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return ["id"] if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [(None, {"fields": [*ProjectForm.Meta.fields, "reason"]})]

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        """Set it, on record."""
        given = form.cleaned_data
        projects.change(
            obj.pk,
            budget=given["budget"],
            asset_quota_bytes=given["asset_quota_bytes"],
            callback_auth=given["callback_auth"],
            actor=actor(request),
            reason=given["reason"],
        )

    def log_addition(self, *args: Any, **kwargs: Any) -> Any:
        """Write no LogEntry: `OperatorAction` is the record."""

    @display(description="budget a month")
    def budget(self, row: Project) -> str:
        if row.budget_amount is None:
            return "none"
        return f"{amount_text(row.budget_amount)} {row.budget_currency}"

    @display(description="spent this month")
    def spent(self, row: Project) -> str:
        if row.budget_amount is None:
            month = costs.sums(row.pk, costs.this_month())
            return ", ".join(f"{amount_text(r['amount'])} {r['currency']}" for r in month) or "-"
        return amount_text(self._standing(row).spent)

    @display(description="reserved")
    def reserved(self, row: Project) -> str:
        return "-" if row.budget_amount is None else amount_text(self._standing(row).reserved)

    @display(description="left")
    def left(self, row: Project) -> str:
        return "-" if row.budget_amount is None else amount_text(self._standing(row).left.amount)

    @staticmethod
    def _standing(row: Project) -> costs.Budget:
        assert row.budget_amount is not None
        return costs.of_project(row.pk, Money(row.budget_amount, row.budget_currency))
