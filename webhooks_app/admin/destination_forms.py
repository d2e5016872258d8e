"""How does an operator pause, disable or mute many destinations at once, or undo it?

Nothing is done before the page has shown which destinations are meant. `operators.destinations`
does the work. Beside it: the form with which the installation subscribes to what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from webhooks_app.admin.base import ReasonForm, actor, confirm, text_widget
from webhooks_app.admin.theme import choices_widget, select_widget, whole_number_widget
from webhooks_app.egress import EgressDenied, check_url
from webhooks_app.models import META_EVENTS, WebhookDestination, WebhookEndpoint
from webhooks_app.news import INSTALLATION
from webhooks_app.notation import counted
from webhooks_app.operators import destinations, endpoints
from webhooks_app.operators.destinations import DONE, Act
from webhooks_app.outbox import InvalidFilter, who

if TYPE_CHECKING:
    from webhooks_app.admin.destinations import DestinationAdmin

CHANGE = "webhooks_app.change_webhookdestination"
LIST = "admin:webhooks_app_webhookdestination_changelist"
MAX_MUTE_HOURS = destinations.MAX_MUTE_SECONDS // 3600
MAX_MINUTES = {act: seconds // 60 for act, seconds in destinations.LONGEST.items()}
SAMPLE = 20
EXPLAIN = {
    Act.PAUSE: "Messages wait and lose no retry.",
    Act.RESUME: "Pauses end, and open breakers try again at once.",
    Act.DISABLE: "Nothing is sent there until somebody enables it. Waiting and new messages become "
    "dead letters, which can be replayed afterwards.",
    Act.ENABLE: "New messages go there again. Dead letters stay dead until they are replayed.",
    Act.MUTE: "Nobody is told that they fail: not the alert on failing receivers, not the "
    "dashboard, not those who subscribed to endpoint.failing. Messages are sent as before.",
    Act.UNMUTE: "It is told again when they fail.",
}


class PauseForm(ReasonForm):
    minutes = forms.IntegerField(
        min_value=1,
        max_value=MAX_MINUTES[Act.PAUSE],
        initial=30,
        widget=whole_number_widget(),
        help_text=f"1 to {MAX_MINUTES[Act.PAUSE]}",
    )
    field_order = ["minutes", "reason"]


class MuteForm(ReasonForm):
    hours = forms.IntegerField(
        min_value=1,
        max_value=MAX_MUTE_HOURS,
        initial=12,
        widget=whole_number_widget(),
        help_text=f"1 to {MAX_MUTE_HOURS}",
    )
    field_order = ["hours", "reason"]


class LimitForm(ReasonForm):
    limit = forms.IntegerField(
        min_value=1,
        max_value=destinations.MAX_IN_FLIGHT,
        required=False,
        widget=whole_number_widget(),
        help_text="Requests that one engine may have open there; empty: adaptive.",
    )
    field_order = ["limit", "reason"]


class ManyForm(ReasonForm):
    """Asks what is to be done, where, and why."""

    minutes = forms.IntegerField(
        min_value=1,
        max_value=max(MAX_MINUTES.values()),
        initial=30,
        required=False,
        widget=whole_number_widget(),
        help_text=" ".join(f"To {act}: 1 to {most}." for act, most in MAX_MINUTES.items()),
    )

    act = forms.ChoiceField(
        label="What",
        choices=[(str(act), act.capitalize()) for act in Act],
        widget=select_widget,
    )
    host = forms.CharField(
        required=False,
        max_length=2048,
        label="Receiver",
        widget=text_widget(),
        help_text="A host, host:port or origin, in all projects; empty: every receiver.",
    )
    project = forms.CharField(
        required=False,
        max_length=100,
        widget=text_widget(),
        help_text="Only as this project sees it; empty: all projects.",
    )
    field_order = ["act", "minutes", "host", "project", "reason"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        most = MAX_MINUTES.get(Act(cleaned["act"])) if "act" in cleaned else None
        if most and "minutes" not in self.errors:
            if not cleaned.get("minutes"):
                self.add_error("minutes", "Say how long.")
            elif cleaned["minutes"] > most:
                self.add_error("minutes", f"At most {most} to {cleaned['act']}.")
        for name, read in (("host", who.read_place), ("project", who.read_project)):
            try:
                if cleaned.get(name):
                    cleaned[name] = read(cleaned[name], name)
            except InvalidFilter as refused:
                self.add_error(name, refused.message)
        return cleaned

    def described(self) -> str:
        """Return what was asked for, to see whether it has changed since it was shown."""
        names = ("act", "minutes", "host", "project")
        return " ".join(f"{name}={self.cleaned_data.get(name)}" for name in names)


def change_many(page: DestinationAdmin, request: HttpRequest, initial: str = "") -> HttpResponse:
    """Ask what and where, then show which destinations that means, then do it."""
    if not request.user.has_perm(CHANGE):
        raise PermissionDenied
    given = {"act": initial or Act.PAUSE, "host": request.GET.get("host", "")}
    form = ManyForm(request.POST if request.method == "POST" else None, initial=given)
    rows: QuerySet[WebhookDestination] | None = None
    if form.is_bound and form.is_valid():
        cleaned = form.cleaned_data
        rows = destinations.meant(Act(cleaned["act"]), cleaned["host"] or None, _scope(cleaned))
        # Only what was shown is done: what was changed on the page is shown first.
        if request.POST.get("confirmed") == form.described():
            return _done(request, Act(cleaned["act"]), rows, cleaned)
    count = rows.count() if rows is not None else 0
    act = Act(form.cleaned_data["act"]) if rows is not None else None
    return confirm(
        request,
        page,
        title="Resume all" if initial == Act.RESUME else "Many destinations at once",
        explain=_explain(act, count),
        facts=_facts(rows) if rows is not None and count else [],
        lines=_lines(rows) if rows is not None else [],
        form=form,
        back=reverse(LIST),
        hidden=[("confirmed", form.described())] if count else [],
        is_dangerous=act == Act.DISABLE,
        submit=f"{act.capitalize()} {counted(count, 'destination')}"
        if act and count
        else "Show which are meant",
    )


def _scope(cleaned: dict[str, Any]) -> str | None:
    return str(cleaned["project"]) if cleaned["project"] else None


def _explain(act: Act | None, count: int) -> str:
    if act is None:
        return "Which destinations are meant? Nothing is done before you have seen them."
    if not count:
        return f"There is no destination to {act} there."
    return f"This will {act} {counted(count, 'destination')}. {EXPLAIN[act]}"


def _facts(rows: QuerySet[WebhookDestination]) -> list[tuple[str, str]]:
    projects = list(rows.order_by("scope").values_list("scope", flat=True).distinct()[:11])
    more = " and more" if len(projects) > 10 else ""
    return [("Projects", ", ".join(projects[:10]) + more)]


def _lines(rows: QuerySet[WebhookDestination]) -> list[str]:
    shown = [str(row) for row in rows.order_by("host", "port", "scope")[: SAMPLE + 1]]
    return [*shown[:SAMPLE], "…"] if len(shown) > SAMPLE else shown


def _done(
    request: HttpRequest, act: Act, rows: QuerySet[WebhookDestination], cleaned: dict[str, Any]
) -> HttpResponse:
    count = destinations.act_on(
        act,
        rows,
        actor=actor(request),
        reason=cleaned["reason"],
        seconds=60 * (cleaned.get("minutes") or 0) + 3600 * cleaned.get("hours", 0),
    )
    verb = "is" if count == 1 else "are"
    messages.success(request, f"{counted(count, 'destination')} {verb} {DONE[act]}.")
    return HttpResponseRedirect(reverse(LIST))


def _selected(act: Act) -> Callable[..., HttpResponse]:
    """Return the action of the list that asks for a reason, then changes the selected rows."""
    form_class = {Act.PAUSE: PauseForm, Act.MUTE: MuteForm}.get(act, ReasonForm)

    @admin.action(description=f"{act.capitalize()} selected", permissions=["change_many"])
    def perform(
        page: DestinationAdmin, request: HttpRequest, queryset: QuerySet[WebhookDestination]
    ) -> HttpResponse:
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: page.list_per_page])
        rows = destinations.meant(act).filter(pk__in=ids)
        form = form_class(request.POST if "confirmed" in request.POST else None)
        if form.is_bound and form.is_valid():
            return _done(request, act, rows, form.cleaned_data)
        count = rows.count()
        left = len(ids) - count
        others = f" {left} of those selected cannot be, or are so already." if left else ""
        hidden = [(ACTION_CHECKBOX_NAME, str(pk)) for pk in ids]
        hidden += [("action", perform.__name__), ("confirmed", "1")]
        return confirm(
            request,
            page,
            title=f"{act.capitalize()} {counted(count, 'destination')}",
            explain=EXPLAIN[act] + others,
            lines=_lines(rows),
            form=form,
            back=reverse(LIST),
            hidden=hidden,
            is_dangerous=act == Act.DISABLE,
        )

    perform.__name__ = f"{act}_selected"
    return perform


SELECTED = [_selected(act) for act in Act]


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    """An endpoint without a project: it gets meta events of all projects."""

    url = forms.CharField(
        max_length=2048,
        widget=text_widget(),
        help_text="Where they are POSTed to, under the same rules as every webhook.",
    )
    event_types = forms.MultipleChoiceField(
        choices=[(name, name) for name in META_EVENTS],  # no longer: a label does not wrap
        initial=list(META_EVENTS),
        widget=choices_widget,
        help_text="Of all projects, and the rate of dead letters.",
    )
    description = forms.CharField(max_length=200, required=False, widget=text_widget())

    class Meta:
        model = WebhookEndpoint
        fields = ["url", "event_types", "description"]

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"])
        try:
            check_url(url)
        except EgressDenied as denied:
            raise forms.ValidationError(f"{denied}.") from None
        ours = WebhookEndpoint.objects.filter(scope=INSTALLATION)
        if ours.filter(url=url).exists():
            raise forms.ValidationError("There is an endpoint with that URL already.")
        if ours.count() >= endpoints.MAX_PER_SCOPE:
            raise forms.ValidationError(f"There are {endpoints.MAX_PER_SCOPE} already.")
        return url
