"""How does an operator see who subscribed to what?"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse

from webhooks_app.admin.base import (
    Operation,
    ReadOnlyAdmin,
    ReasonForm,
    actor,
    cell,
    clipped,
    confirm,
    sent_ping,
    shown_once,
    text_widget,
    utc,
)
from webhooks_app.admin.destination_forms import EndpointForm
from webhooks_app.admin.lists import SEARCHED_BY, known_values
from webhooks_app.admin.theme import INPUT_CSS, action, select_widget
from webhooks_app.models import SigningSecret, WebhookEndpoint, WebhookMessage
from webhooks_app.news import INSTALLATION
from webhooks_app.notation import EVENT_ID_PREFIX
from webhooks_app.operators import endpoints
from webhooks_app.outbox import filters, search_endpoints
from webhooks_app.shown import safe_url, visible
from webhooks_app.signing import store

CHANGE = "webhooks_app.change_webhookendpoint"
ROTATE = "webhooks_app.change_signingsecret"
_EXAMPLE = '{"all": [{"path": "/metadata/userId", "op": "eq", "value": "user-1"}]}'
_HELP = (
    f"JSON, such as {_EXAMPLE}: conditions in “all”, “any” or “not”, at most "
    f"{filters.MAX_CONDITIONS}. A path leads into the event's body; ops are "
    f"{', '.join(filters.OPS)}. Empty: no filter."
)


class JsonText(forms.CharField):
    """A text area for JSON; empty means None."""

    def __init__(self, **options: Any) -> None:
        attrs = {"class": f"{INPUT_CSS} mv-code", "rows": 6, "spellcheck": "false"}
        super().__init__(required=False, widget=forms.Textarea(attrs=attrs), **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return json.loads(text) if text else None
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise forms.ValidationError(f"This is not JSON: {error.msg} ({place}).") from None
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from None


class FilterText(JsonText):
    """A filter as JSON."""

    def clean(self, value: Any) -> Any:
        given = super().clean(value)
        found = [] if given is None else filters.faults(given)
        if found:
            raise forms.ValidationError(
                [f"{fault.pointer}: {fault.message}".removeprefix(": ") for fault in found]
            )
        return given


class EventFilterForm(ReasonForm):
    filter = FilterText(label="Filter", help_text=_HELP)
    field_order = ["filter", "reason"]


class RotateForm(ReasonForm):
    overlap = forms.TypedChoiceField(
        choices=[
            (86_400, "24 hours"),
            (3_600, "1 hour"),
            (604_800, "7 days"),
            (0, "not at all: it has leaked"),
        ],
        coerce=int,
        label="The old secret signs on for",
        widget=select_widget,
        help_text="Meanwhile each request carries both signatures.",
    )
    field_order = ["overlap", "reason"]


class RotateProjectForm(RotateForm):
    project = forms.CharField(max_length=100, widget=text_widget(attrs={"autocomplete": "off"}))
    field_order = ["project", "overlap", "reason"]

    def clean_project(self) -> str:
        scope: str = self.cleaned_data["project"]
        if not endpoints.is_known(scope):
            raise forms.ValidationError("Nothing was ever sent for such a project.")
        return scope


class DryRunForm(forms.Form):
    """Asks which events to judge, by which filter; nothing is stored."""

    meant = forms.CharField(
        required=False,
        max_length=64,
        label="Event or task",
        widget=text_widget(attrs={"autocomplete": "off", "placeholder": "msg_… or a task's id"}),
        help_text="An event of this project, or a task with all of its events.",
    )
    body = JsonText(label="Or a body", help_text="What an event might say, as JSON.")
    filter = FilterText(label="Filter", help_text="As it is now; what you change is not saved.")

    def verdicts(self, row: WebhookEndpoint) -> list[endpoints.DryRun]:
        """Judge what is asked for; with an error in the form if there is nothing."""
        meant, body, given = (self.cleaned_data[name] for name in ("meant", "body", "filter"))
        if bool(meant) == (body is not None):
            self.add_error("meant", "Give an event, a task or a body: one of them.")
            return []
        if body is not None:
            return [endpoints.judge(row, given, body=json.dumps(body).encode())]
        is_event = meant.startswith(EVENT_ID_PREFIX)
        found = endpoints.events_of(row.scope, **{"event_id" if is_event else "subject": meant})
        if not found:
            self.add_error("meant", "This project has no such event.")
        return [
            endpoints.judge(
                row,
                given,
                body=bytes(event.body),
                event_type=event.event_type,
                event_id=event.event_id,
            )
            for event in found
        ]


def as_text(given: Any, indent: str = "") -> str:
    """Write a filter as JSON, each condition in a line; its members in the order of the docs."""
    group = next((name for name in filters.GROUPS if isinstance(given, dict) and name in given), "")
    if not group or len(given) > 1:  # the second is no filter, but a row may hold anything
        members = ("path", "op", "value")
        if isinstance(given, dict) and set(given) <= set(members):
            given = {name: given[name] for name in members if name in given}
        return json.dumps(given, ensure_ascii=False)
    inside = given[group]
    if not isinstance(inside, list):
        return f'{{"{group}": {as_text(inside, indent)}}}'
    lines = ",\n".join(f"{indent}  {as_text(item, f'{indent}  ')}" for item in inside)
    return f'{{"{group}": [\n{lines}\n{indent}]}}'


def _taken(row: WebhookEndpoint) -> tuple[str, ...]:
    """Return the types that an endpoint takes, whether by a filter, and whether in order."""
    how = ("" if row.filter is None else "filtered", "in order" if row.ordered else "")
    return (", ".join(row.event_types) or "all", *how)


def _initial(row: WebhookEndpoint) -> dict[str, Any]:
    return {"filter": "" if row.filter is None else as_text(row.filter)}


def _set_filter(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
    changes = {"filter": cleaned["filter"]}
    endpoints.update(row, changes, actor=actor(request), reason=cleaned["reason"])
    return "The filter is stored." if cleaned["filter"] else "The endpoint has no filter any more."


def _set_order(is_ordered: bool) -> Any:
    def perform(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
        changes = {"ordered": is_ordered}
        endpoints.update(row, changes, actor=actor(request), reason=cleaned["reason"])
        how = "one after another from now on" if is_ordered else "without order from now on"
        return f"The events of a task are sent {how}."

    return perform


def _switch(is_enabled: bool) -> Any:
    def perform(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
        reason = cleaned["reason"]
        changes: dict[str, Any] = {"is_enabled": is_enabled}
        if not is_enabled:
            changes["disabled_reason"] = reason[:300]
        endpoints.update(row, changes, actor=actor(request), reason=reason)
        return f"The endpoint is {'enabled' if is_enabled else 'disabled'}."

    return perform


def _rotate(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
    secret = endpoints.rotate_secret(
        row.scope,
        cleaned["overlap"],
        endpoint=row,
        actor=actor(request),
        reason=cleaned["reason"],
    )
    return shown_once("This is the endpoint's new signing secret.", secret)


def _ping(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
    message = endpoints.ping(row, actor=actor(request), reason=cleaned["reason"])
    return sent_ping(message)


class AuthForm(ReasonForm):
    """Asks which credential an endpoint's requests carry."""

    callback_auth = forms.CharField(
        required=False,
        label="Credential",
        widget=text_widget(),
        help_text="Its name; it must be bound to the endpoint's origin. Empty: the project's.",
    )
    field_order = ("callback_auth", "reason")


def _set_auth(request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
    name = cleaned["callback_auth"].strip()
    how = {"actor": actor(request), "reason": cleaned["reason"]}
    endpoints.update(row, {"callback_auth": name}, **how)
    return f"New events carry {f'the credential {name}' if name else 'no credential of its own'}."


@admin.register(WebhookEndpoint)
class EndpointAdmin(ReadOnlyAdmin):
    """Subscriptions. Those of projects are made through the API, the installation's own here.

    A secret is shown once, when it is new.
    """

    form = EndpointForm

    class Media:
        js = ("webhooks_app/live.js",)

    page_template = "webhooks_app/endpoint.html"
    list_display = ["receiver", "project", "types", "shown_state", "at_made"]
    list_filter = [known_values("state", "is_enabled", [(True, "enabled"), (False, "disabled")])]
    search_fields = ["url"]
    search = staticmethod(search_endpoints)
    search_help_text = SEARCHED_BY
    ordering = ["-created_at"]
    actions_list = ["rotate_of_project"]
    at_made = utc("created_at", "made")
    project = cell("project", lambda row: row.scope or "installation")
    receiver = cell("receiver", lambda row: clipped(row.url))
    types = cell("events", lambda row: " · ".join(filter(None, _taken(row))))
    shown_state = cell(
        "state",
        lambda row: (word := "enabled" if row.is_enabled else "disabled", word),
        label={"enabled": "success", "disabled": "danger"},
    )
    operations = (
        Operation(
            "ping",
            "Send a ping",
            CHANGE,
            "Sends a test event (webhook.ping) to this endpoint, signed as every other one.",
            _ping,
            icon="network_ping",
        ),
        Operation(
            "filter",
            "Change the filter",
            CHANGE,
            "From now on only events that pass the filter are sent here. “Try a filter” shows what "
            "it does before it is stored.",
            _set_filter,
            form=EventFilterForm,
            initial=_initial,
            icon="filter_alt",
        ),
        Operation(
            "order",
            "Send in order",
            CHANGE,
            "From now on each event of a task waits until the one before it is delivered or given "
            "up. A receiver that fails then holds up the later events of the same task.",
            _set_order(True),
            is_offered=lambda row: not row.ordered,
            icon="format_list_numbered",
        ),
        Operation(
            "no-order",
            "Send without order",
            CHANGE,
            "Every event is sent as soon as it can be; what waits for another one goes at once.",
            _set_order(False),
            is_offered=lambda row: row.ordered,
            icon="shuffle",
        ),
        Operation(
            "credential",
            "Set its credential",
            CHANGE,
            "Requests of new events carry it, beside the signature. What waits keeps its own.",
            _set_auth,
            form=AuthForm,
            initial=lambda row: {"callback_auth": row.callback_auth},
            icon="vpn_key",
        ),
        Operation(
            "rotate",
            "Rotate the secret",
            ROTATE,
            "A new secret signs what is sent to this endpoint, and is shown once.",
            _rotate,
            form=RotateForm,
            icon="key",
        ),
        Operation(
            "disable",
            "Disable",
            CHANGE,
            "New events are not sent there. What is already in the outbox goes out.",
            _switch(False),
            is_offered=lambda row: row.is_enabled,
            icon="block",
            is_dangerous=True,
        ),
        Operation(
            "enable",
            "Enable",
            CHANGE,
            "Events from now on are sent there again.",
            _switch(True),
            is_offered=lambda row: not row.is_enabled,
            icon="check",
        ),
    )

    def __init__(self, model: type[WebhookEndpoint], site: admin.AdminSite) -> None:
        super().__init__(model, site)
        self.change_form_template = None  # the form for a new one; existing ones have a page

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("webhooks_app.add_webhookendpoint"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [(None, {"fields": EndpointForm.Meta.fields})] if obj is None else []

    def save_model(
        self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool
    ) -> None:
        """Make the endpoint and show its secret, only now."""
        made = endpoints.create(INSTALLATION, actor=actor(request), **form.cleaned_data)
        obj.pk = made.pk
        secret = store.get_or_create(INSTALLATION, made.pk)
        messages.warning(request, shown_once("This is the endpoint's signing secret.", secret))

    def log_addition(self, *args: Any, **kwargs: Any) -> Any:
        """Write no LogEntry: `OperatorAction` is the record."""

    def page_context(self, request: HttpRequest, row: WebhookEndpoint) -> dict[str, Any]:
        latest = WebhookMessage.objects.filter(endpoint=row).select_related("event")
        secrets = SigningSecret.objects.filter(endpoint=row).defer("ciphertext")
        return {
            "title": safe_url(row.url),
            "url": safe_url(row.url),
            "types": ", ".join(row.event_types) or "all",
            "filter": visible(_initial(row)["filter"]),
            "latest": latest.defer("event__body").order_by("-id")[:15],
            "secrets": secrets.exclude(expires_at__lt=Now()).order_by("-created_at")[:5],
        }

    def get_urls(self) -> list[URLPattern]:
        dry_run, rotate = map(self.admin_site.admin_view, (self.dry_run, self.rotate))
        name = "webhooks_app_webhookendpoint"
        return [
            path("project-secret/", rotate, name=f"{name}_rotate_of_project_form"),
            path("<path:object_id>/dry-run/", dry_run, name=f"{name}_dry_run"),
            *super().get_urls(),
        ]

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(ROTATE))

    @action(description="Rotate a project's secret", permissions=["rotate"], icon="key")
    def rotate_of_project(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:webhooks_app_webhookendpoint_rotate_of_project_form")

    def rotate(self, request: HttpRequest) -> HttpResponse:
        """Ask which project's secret is to be replaced, and show the new one, once."""
        if not self.has_rotate_permission(request):
            raise PermissionDenied
        form = RotateProjectForm(request.POST if request.method == "POST" else None)
        back = reverse("admin:webhooks_app_webhookendpoint_changelist")
        if form.is_bound and form.is_valid():
            scope = form.cleaned_data["project"]
            secret = endpoints.rotate_secret(
                scope,
                form.cleaned_data["overlap"],
                actor=actor(request),
                reason=form.cleaned_data["reason"],
            )
            messages.warning(request, shown_once(f"The new signing secret of {scope}.", secret))
            return redirect(back)
        return confirm(
            request,
            self,
            title="Rotate a project's secret",
            explain="A new secret signs the webhooks of a project's tasks, and is shown once. "
            "Endpoints have secrets of their own.",
            lines=[],
            form=form,
            back=back,
            submit="Rotate",
        )

    def dry_run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say which events would be sent here, and why; nothing is sent or stored."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.find(request, object_id)
        is_asked = request.method == "POST"
        form = DryRunForm(request.POST if is_asked else None, initial=_initial(row))
        found = form.verdicts(row) if is_asked and form.is_valid() else []
        told = [" ".join(filter(None, (v.event_type, v.event_id, v.reason))) for v in found]
        return confirm(
            request,
            self,
            title="Try a filter",
            explain="Says which events would be sent here, and why. Nothing is sent or stored.",
            lines=[visible(line) for line in told] or [self.name_of(row)],
            form=form,
            back=self.page_url(row),
            submit="Try",
        )

    def name_of(self, row: WebhookEndpoint) -> str:
        return f"{safe_url(row.url)} ({row.scope or 'installation'})"
