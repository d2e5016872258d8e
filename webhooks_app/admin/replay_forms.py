"""How does the admin lead to a replay, or set messages aside? Forms and steps.

What is meant is shown first, and only what was shown is done: a changed form is shown again.
`operators.replay` and `operators.set_aside` do the work.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from webhooks_app.admin.base import ReasonForm, actor, confirm, text_widget
from webhooks_app.admin.theme import number_widget, select_widget, whole_number_widget
from webhooks_app.conf import webhook_settings
from webhooks_app.egress import EgressDenied, check_url
from webhooks_app.models import META_EVENTS, MessageStatus, ReplayJob, WebhookMessage
from webhooks_app.notation import counted, sentence
from webhooks_app.operators import moments, ping, replay, replay_preview, replay_refusals, set_aside
from webhooks_app.outbox import ANY_STATUS, InvalidFilter, MessageFilters
from webhooks_app.retry import ERROR_CODES
from webhooks_app.shown import safe_url, visible

if TYPE_CHECKING:
    from webhooks_app.admin.messages import MessageAdmin

PERMISSION = "webhooks_app.replay_webhooks"
EVENT_TYPES = (*webhook_settings.EVENT_TYPES, *META_EVENTS, ping.PING)
LIST = "admin:webhooks_app_webhookmessage_changelist"
FILTER_PAGE = "admin:webhooks_app_webhookmessage_replay_with_filter_form"
#: Messages are set aside for so long in one request; the next one does the rest.
SECONDS = 5.0
SEND, SET_ASIDE = "send", "set_aside"


class ReplayForm(ReasonForm):
    target_url = forms.CharField(
        required=False,
        max_length=2048,
        label="Send to another URL",
        widget=text_widget(attrs={"autocomplete": "off", "placeholder": "https://…"}),
        help_text="Empty: where it was sent before. A dead letter that goes elsewhere is replayed "
        "as a message of its own.",
    )
    field_order = ["reason", "target_url"]

    def clean_target_url(self) -> str:
        url = str(self.cleaned_data["target_url"]).strip()
        if url:
            try:
                check_url(url)
            except EgressDenied as error:
                raise forms.ValidationError(str(error)) from error
        return url


class SelectedForm(ReplayForm):
    """For several messages: another URL may have to be allowed for several projects."""

    all_projects = forms.BooleanField(
        required=False,
        label="Yes, all of these projects' events may go to that one URL",
        help_text="Whoever reads it sees the events of every project named above.",
    )
    field_order = ["reason", "target_url", "all_projects"]

    def agrees(self, found: replay_preview.Preview) -> bool:
        """Say whether several projects may go to one URL; ask where they would."""
        if not found.mixes_projects:
            return True
        if self.cleaned_data["all_projects"]:
            return True
        text = f"{len(found.projects)} projects would go to one URL: tick this if all are meant."
        self.add_error("all_projects", text)
        return False

    def settle(self, found: replay_preview.Preview | None) -> None:
        """Leave out the question that does not arise."""
        if found is None or not found.mixes_projects:
            self.fields.pop("all_projects", None)


def _choices(first: str, names: Any) -> list[tuple[str, str]]:
    return [("", first), *((name, name) for name in names)]


def _time_field(label: str) -> forms.CharField:
    return forms.CharField(
        required=False,
        max_length=60,
        label=label,
        widget=text_widget(attrs={"autocomplete": "off", "placeholder": "14:00"}),
        help_text="14:00, yesterday 18:00, 2h (ago) or 2025-01-15T14:00.",
    )


class FilterForm(SelectedForm):
    """Asks which messages, what to do, and why. Empty fields are ignored."""

    what = forms.ChoiceField(
        choices=[(SEND, "send them again"), (SET_ASIDE, "set them aside")],
        initial=SEND,
        label="What to do",
        widget=select_widget,
        help_text="What is set aside is kept, but is no dead letter any more.",
    )
    status = forms.ChoiceField(
        choices=[("dead", "dead letters"), *MessageStatus.choices, (ANY_STATUS, "any state")],
        initial="dead",
        label="State",
        widget=select_widget,
    )
    since = _time_field("Written since")
    until = _time_field("Written before")
    zone = forms.CharField(
        required=False,
        max_length=60,
        initial="UTC",
        label="Time zone of these times",
        widget=text_widget(attrs={"autocomplete": "off"}),
        help_text="UTC, or a name such as Europe/Berlin.",
    )
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
        "status", "event", "since", "until", "zone", "host", "project", "task", "metadata",
        "request_id", "error_code", "status_code", "what", "target_url", "all_projects", "rate",
        "reason",
    ]  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Read the times, and what does not go together."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        try:
            zone = moments.zone_of(cleaned.get("zone", ""))
        except ValueError as error:
            self.add_error("zone", sentence(str(error)))
            return cleaned
        try:
            since, until = cleaned.get("since", ""), cleaned.get("until", "")
            span = moments.span_of(since, until, timezone.now(), zone)
            cleaned["since"], cleaned["until"] = span
        except ValueError as error:
            self.add_error("since", sentence(str(error)))
        if cleaned.get("what") == SET_ASIDE:
            if cleaned.get("status") != MessageStatus.DEAD:
                self.add_error("status", "Only dead letters can be set aside.")
            if cleaned.get("target_url"):
                self.add_error("target_url", "What is set aside is not sent.")
        return cleaned

    def filters(self) -> MessageFilters:
        names = (
            *("status", "since", "until", "host", "project", "event", "error_code"),
            *("task", "metadata", "request_id"),
        )
        chosen = {name: self.cleaned_data[name] for name in (*names, "status_code")}
        return MessageFilters.of(chosen)

    def pinned(self) -> FilterForm:
        """Return the form with its times as moments: two hours ago is a later one soon."""
        times = {name: self.cleaned_data[name] for name in ("since", "until")}
        fixed = {name: at.isoformat(sep=" ") for name, at in times.items() if at}
        again = type(self)({**dict(self.data.items()), **fixed})
        again.full_clean()
        return again


def replay_row(request: HttpRequest, row: WebhookMessage, cleaned: dict[str, Any]) -> str:
    """Replay one message; raise ValueError with a sentence if that is not possible."""
    try:
        replay.replay_one(
            row,
            to_url=cleaned["target_url"],
            reason=cleaned["reason"],
            requested_by=actor(request),
            source="admin",
        )
    except (replay_refusals.ReplayRefused, EgressDenied) as error:
        raise ValueError(f"Not replayed: {error}") from error
    return f"Message {row.pk} is on its way again."


def set_row_aside(request: HttpRequest, row: WebhookMessage, cleaned: dict[str, Any]) -> str:
    set_aside.one(row, actor=actor(request), reason=cleaned["reason"])
    return f"Message {row.pk} is set aside."


def take_row_back(request: HttpRequest, row: WebhookMessage, cleaned: dict[str, Any]) -> str:
    set_aside.one(row, actor=actor(request), reason=cleaned["reason"], is_undone=True)
    return f"Message {row.pk} is a dead letter again."


def cancel_replay(request: HttpRequest, row: ReplayJob, cleaned: dict[str, Any]) -> str:
    try:
        replay.cancel(row, requested_by=actor(request), reason=cleaned["reason"])
    except replay_refusals.NotRunning as error:
        raise ValueError(str(error)) from error
    return "The replay is cancelled."


def _start(
    request: HttpRequest,
    filters: MessageFilters,
    found: replay_preview.Preview,
    cleaned: dict[str, Any],
) -> HttpResponse:
    job = replay.start(
        filters,
        to_url=found.to_url,
        all_projects=bool(cleaned.get("all_projects")),
        shown=found,
        rate=cleaned.get("rate"),
        reason=cleaned["reason"],
        requested_by=actor(request),
        source="admin",
    )
    replay.advance(job.pk)  # the first batch at once; the engine does the rest
    messages.success(request, f"The replay of {counted(job.total, 'message')} has begun.")
    return HttpResponseRedirect(reverse("admin:webhooks_app_replayjob_change", args=[job.pk]))


def _set_aside(request: HttpRequest, filters: MessageFilters, reason: str) -> HttpResponse:
    end = time.monotonic() + SECONDS
    done = set_aside.many(
        filters,
        actor=actor(request),
        reason=reason,
        on_batch=lambda done: time.monotonic() < end,
    )
    text = f"{counted(done, 'message')} set aside."
    if time.monotonic() >= end:
        text += " There may be more: do it again."
    messages.success(request, text)
    return HttpResponseRedirect(f"{reverse(LIST)}?status={MessageStatus.SET_ASIDE}")


def _ids(page: MessageAdmin, queryset: QuerySet[WebhookMessage]) -> tuple[int, ...]:
    return tuple(queryset.order_by("pk").values_list("pk", flat=True)[: page.list_per_page])


@admin.action(description="Replay selected", permissions=["replay"])
def replay_selected(
    page: MessageAdmin, request: HttpRequest, queryset: QuerySet[WebhookMessage]
) -> HttpResponse:
    """Show the selected messages (at most one page of them), ask for a reason, replay them."""
    filters = MessageFilters(ids=_ids(page, queryset))
    form = SelectedForm(request.POST if "confirmed" in request.POST else None)
    url = ""
    if form.is_bound and form.is_valid():
        url = form.cleaned_data["target_url"]
    found = replay_preview.preview(filters, to_url=url)
    is_confirmed = request.POST.get("confirmed") == _token(filters, found)
    if is_confirmed and form.is_valid() and form.agrees(found):
        try:
            return _start(request, filters, found, form.cleaned_data)
        except (replay_refusals.ReplayRefused, ValueError) as error:
            form.add_error(None, sentence(str(error)))
    form.settle(found)
    hidden = [(ACTION_CHECKBOX_NAME, str(pk)) for pk in filters.ids]
    hidden += [("action", "replay_selected"), ("confirmed", _token(filters, found))]
    return confirm(
        request,
        page,
        title=f"Replay {found.meant}",
        explain="They are sent again under the same webhook-id, with a full set of retries. "
        "A message with an attempt under way is left alone.",
        facts=found.lines(),
        lines=_lines(found.sample),
        form=form,
        back=reverse(LIST),
        hidden=hidden,
    )


@admin.action(description="Set selected aside", permissions=["replay"])
def set_selected_aside(
    page: MessageAdmin, request: HttpRequest, queryset: QuerySet[WebhookMessage]
) -> HttpResponse:
    """Ask for a reason, then set the dead letters among the selected messages aside."""
    filters = MessageFilters(ids=_ids(page, queryset), status=str(MessageStatus.DEAD))
    form = ReasonForm(request.POST if "confirmed" in request.POST else None)
    if form.is_bound and form.is_valid():
        return _set_aside(request, filters, form.cleaned_data["reason"])
    found = replay_preview.preview(filters)
    hidden = [(ACTION_CHECKBOX_NAME, str(pk)) for pk in filters.ids]
    return confirm(
        request,
        page,
        title=f"Set {found.meant} aside",
        explain="Dead letters that are set aside are kept and can be replayed, but they are in no "
        "count and no alert any more. Selected messages in another state are left alone.",
        facts=found.lines(where_to=False),
        lines=_lines(found.sample),
        form=form,
        back=reverse(LIST),
        hidden=[*hidden, ("action", "set_selected_aside"), ("confirmed", "1")],
    )


def _token(filters: MessageFilters, found: replay_preview.Preview) -> str:
    """Return a word for what was shown, by which it is known again when it is confirmed."""
    shown = "\n".join([filters.describe(), found.to_url, *sorted(found.projects)])
    return hashlib.sha256(shown.encode()).hexdigest()[:32]


def _lines(sample: list[WebhookMessage]) -> list[str]:
    return [
        f"{m.pk}: {m.event.event_type} to {visible(safe_url(m.url))} ({m.get_status_display()})"
        for m in sample
    ]


def replay_with_filter(page: MessageAdmin, request: HttpRequest) -> HttpResponse:
    """Ask for the filter, then show what it matches, then do it."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    is_asked = request.method == "POST"
    form = FilterForm(request.POST) if is_asked else FilterForm(initial=request.GET.dict())
    found: replay_preview.Preview | None = None
    token = ""
    if form.is_bound and form.is_valid():
        try:
            filters, cleaned = form.filters(), form.cleaned_data
            found = replay_preview.preview(filters, to_url=cleaned["target_url"])
            token = _token(filters, found) + cleaned["what"]
            if request.POST.get("confirmed") == token and form.agrees(found):
                if cleaned["what"] == SET_ASIDE:
                    return _set_aside(request, filters, cleaned["reason"])
                return _start(request, filters, found, cleaned)
            if form.is_valid():
                form = form.pinned()
        except InvalidFilter as refused:
            form.add_error(refused.name, sentence(refused.message))
        except (replay_refusals.ReplayRefused, ValueError) as error:
            form.add_error(None, sentence(str(error)))
    form.settle(found)
    does_send = form.data.get("what") != SET_ASIDE
    verb = "Replay {}" if does_send else "Set {} aside"
    return confirm(
        request,
        page,
        title="Replay with filter",
        explain=_explain(found),
        facts=found.lines(where_to=does_send) if found and found.count else [],
        lines=_lines(found.sample) if found else [],
        form=form,
        back=reverse(LIST),
        hidden=[("confirmed", token)] if found and found.count else [],
        submit=verb.format(found.meant) if found and found.count else "Show what it matches",
    )


def _explain(found: replay_preview.Preview | None) -> str:
    if found is None:
        return "Which messages are meant? Nothing is done before you have seen them."
    if not found.count:
        return "No message matches. Change the filter and look again."
    return f"This means {found.meant}. If that is right, confirm it below."
