"""How does the admin lead to a replay? Forms and steps; `operators.replay` does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from webhooks_app.admin.base import ReasonForm, actor, confirm, text_widget, time_widget
from webhooks_app.admin.theme import number_widget, select_widget, whole_number_widget
from webhooks_app.conf import webhook_settings
from webhooks_app.egress import EgressDenied
from webhooks_app.models import MessageStatus, ReplayJob, WebhookMessage
from webhooks_app.notation import sentence
from webhooks_app.operators import ping, replay
from webhooks_app.outbox import ANY_STATUS, InvalidFilter, MessageFilters
from webhooks_app.retry import ERROR_CODES
from webhooks_app.shown import safe_url, visible

if TYPE_CHECKING:
    from webhooks_app.admin.messages import MessageAdmin

PERMISSION = "webhooks_app.replay_webhooks"
EVENT_TYPES = (*webhook_settings.EVENT_TYPES, ping.PING)
LIST = "admin:webhooks_app_webhookmessage_changelist"


class ReplayForm(ReasonForm):
    target_url = forms.CharField(
        required=False,
        max_length=2048,
        label="Send to another URL",
        widget=text_widget(attrs={"autocomplete": "off", "placeholder": "https://…"}),
        help_text="Empty: where it was sent before.",
    )
    field_order = ["reason", "target_url"]


def _choices(first: str, names: Any) -> list[tuple[str, str]]:
    return [("", first), *((name, name) for name in names)]


class FilterForm(ReplayForm):
    """Asks which messages, how fast, why, and optionally another URL. Empty fields are ignored."""

    status = forms.ChoiceField(
        choices=[("dead", "dead letters"), *MessageStatus.choices, (ANY_STATUS, "any state")],
        initial="dead",
        label="State",
        widget=select_widget,
    )
    since = forms.DateTimeField(required=False, label="Written since (UTC)", widget=time_widget())
    until = forms.DateTimeField(required=False, label="Written before (UTC)", widget=time_widget())
    host = forms.CharField(
        required=False, max_length=2048, widget=text_widget(), help_text="Or host:port, or a URL."
    )
    project = forms.CharField(required=False, max_length=100, widget=text_widget())
    task = forms.CharField(
        required=False, max_length=64, widget=text_widget(), help_text="Its id or the beginning."
    )
    metadata = forms.CharField(
        required=False, max_length=401, widget=text_widget(), help_text="key=value"
    )
    request_id = forms.CharField(
        required=False, max_length=64, label="Request id", widget=text_widget()
    )
    event = forms.ChoiceField(
        required=False, choices=_choices("any", EVENT_TYPES), widget=select_widget
    )
    error_code = forms.ChoiceField(
        required=False, choices=_choices("any", ERROR_CODES), widget=select_widget
    )
    status_code = forms.IntegerField(
        required=False, min_value=100, max_value=599, widget=whole_number_widget
    )
    rate = forms.FloatField(
        required=False,
        min_value=0.01,
        max_value=replay.MAX_RATE,
        widget=number_widget(attrs={"step": "any"}),
        label="Messages a second, at most",
        help_text="Empty: as fast as the receivers take them.",
    )
    field_order = [
        "status", "event", "since", "until", "host", "project", "task", "metadata", "request_id",
        "error_code", "status_code", "rate", "target_url", "reason",
    ]  # fmt: skip

    def filters(self) -> MessageFilters:
        names = (
            *("status", "since", "until", "host", "project", "event", "error_code"),
            *("task", "metadata", "request_id"),
        )
        chosen = {name: self.cleaned_data[name] for name in (*names, "status_code")}
        return MessageFilters.of(chosen)


def _where(cleaned: dict[str, Any]) -> str:
    return str(cleaned.get("target_url") or "").strip()


def replay_row(request: HttpRequest, row: WebhookMessage, cleaned: dict[str, Any]) -> str:
    """Replay one message; raise ValueError with a sentence if that is not possible."""
    try:
        replay.replay_one(
            row,
            to_url=_where(cleaned),
            reason=cleaned["reason"],
            requested_by=actor(request),
            source="admin",
        )
    except (replay.ReplayRefused, EgressDenied) as error:
        raise ValueError(f"Not replayed: {error}") from error
    return f"Message {row.pk} is on its way again."


def cancel_replay(request: HttpRequest, row: ReplayJob, cleaned: dict[str, Any]) -> str:
    try:
        replay.cancel(row, requested_by=actor(request), reason=cleaned["reason"])
    except replay.NotRunning as error:
        raise ValueError(str(error)) from error
    return "The replay is cancelled."


def _start(request: HttpRequest, filters: MessageFilters, cleaned: dict[str, Any]) -> HttpResponse:
    job = replay.start(
        filters,
        to_url=_where(cleaned),
        rate=cleaned.get("rate"),
        reason=cleaned["reason"],
        requested_by=actor(request),
        source="admin",
    )
    replay.advance(job.pk)  # the first batch at once; the engine does the rest
    plural = "s" * (job.total != 1)
    messages.success(request, f"The replay of {job.total:,} message{plural} has begun.")
    return HttpResponseRedirect(reverse("admin:webhooks_app_replayjob_change", args=[job.pk]))


@admin.action(description="Replay selected", permissions=["replay"])
def replay_selected(
    page: MessageAdmin, request: HttpRequest, queryset: QuerySet[WebhookMessage]
) -> HttpResponse:
    """Ask for a reason, then replay the selected messages (at most one page of them)."""
    ids = tuple(queryset.order_by("pk").values_list("pk", flat=True)[: page.list_per_page])
    form = ReplayForm(request.POST if "confirmed" in request.POST else None)
    if form.is_bound and form.is_valid():
        try:
            return _start(request, MessageFilters(ids=ids), form.cleaned_data)
        except (EgressDenied, ValueError) as error:
            form.add_error(None, str(error))
    hidden = [(ACTION_CHECKBOX_NAME, str(pk)) for pk in ids]
    hidden += [("action", "replay_selected"), ("confirmed", "1")]
    return confirm(
        request,
        page,
        title=f"Replay {len(ids)} message{'s' * (len(ids) != 1)}",
        explain="They are sent again under the same webhook-id, with a full set of retries. "
        "A message with an attempt under way is left alone.",
        lines=_lines(queryset.select_related("event")),
        form=form,
        back=reverse(LIST),
        hidden=hidden,
    )


def _lines(queryset: QuerySet[WebhookMessage] | list[WebhookMessage]) -> list[str]:
    shown = queryset[: replay.SAMPLE]
    return [
        f"{m.pk}: {m.event.event_type} to {visible(safe_url(m.url))} ({m.get_status_display()})"
        for m in shown
    ]


def replay_with_filter(page: MessageAdmin, request: HttpRequest) -> HttpResponse:
    """Ask for the filter, then show what it matches, then start."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    form = FilterForm(request.POST if request.method == "POST" else None)
    found: replay.Preview | None = None
    filters = MessageFilters()
    if form.is_bound and form.is_valid():
        try:
            filters = form.filters()
            # Only what was shown is replayed: a changed filter is shown first.
            if request.POST.get("confirmed") == filters.describe():
                return _start(request, filters, form.cleaned_data)
            found = replay.preview(filters)
        except InvalidFilter as refused:
            form.add_error(refused.name, sentence(refused.message))
        except (EgressDenied, ValueError) as error:
            form.add_error(None, str(error))
    return confirm(
        request,
        page,
        title="Replay with filter",
        explain=_explain(found),
        lines=_lines(found.sample) if found else [],
        form=form,
        back=reverse(LIST),
        hidden=[("confirmed", filters.describe())] if found and found.count else [],
        submit=f"Replay {_count(found)}" if found and found.count else "Show what it matches",
    )


def _count(found: replay.Preview) -> str:
    more = "" if found.is_exact else " or more"
    return f"{found.count:,}{more} message{'s' * (found.count != 1)}"


def _explain(found: replay.Preview | None) -> str:
    if found is None:
        return "Which messages are to be sent again? Nothing is sent before you have seen them."
    if not found.count:
        return "No message matches. Change the filter and look again."
    return f"This replays {_count(found)}. The first ones:"
