"""How does an operator add, change, try out and delete credentials? No page shows a secret."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.generic import RedirectView

from webhooks_app.admin.base import (
    Operation,
    ReadOnlyAdmin,
    ReasonForm,
    actor,
    cell,
    confirm,
    text_widget,
    utc,
)
from webhooks_app.admin.lists import known_values
from webhooks_app.admin.theme import INPUT_CSS, action, select_widget
from webhooks_app.credentials import CLIENT_AUTHS, NAME, NAME_SHAPE, PARTS, BadCredential
from webhooks_app.credentials.store import WARN_DAYS
from webhooks_app.egress import EgressDenied
from webhooks_app.models import Credential, CredentialKind
from webhooks_app.notation import PROJECT_ID, PROJECT_ID_SHAPE
from webhooks_app.operators import credentials, trial
from webhooks_app.shown import visible

CHANGE = "webhooks_app.change_credential"
ADD = "webhooks_app.add_credential"
LIST = "admin:webhooks_app_credential_changelist"
_SECRETS = {parts[0] for parts in PARTS.values()}
_LONG = {"headers", "certificate", "private_key"}
_WORDS = {
    "headers": ("Headers", "One a line: Name: value."),
    "token": ("Token", "Sent as Authorization: Bearer."),
    "username": ("User name", ""),
    "password": ("Password", ""),
    "token_url": ("Token URL", "Where tokens are fetched."),
    "client_id": ("Client id", ""),
    "client_secret": ("Client secret", ""),
    "oauth_scope": ("Scopes", "To ask for; may be empty."),
    "audience": ("Audience", "May be empty."),
    "client_auth": ("Client auth", "How it names itself: by HTTP Basic, or in the request's body."),
    "certificate": ("Certificate", "PEM: the client's own first, its chain behind it."),
    "private_key": ("Private key", "PEM, not encrypted with a passphrase."),
}


def _area() -> forms.Textarea:
    attrs = {"class": INPUT_CSS, "rows": "4", "autocomplete": "off", "spellcheck": "false"}
    return forms.Textarea(attrs=attrs)


def _field(part: str, *, is_new: bool) -> forms.Field:
    """Return the field of one part; what is stored of it is never put in."""
    label, text = _WORDS[part]
    if part == "client_auth":
        choices = [*([] if is_new else [("", "as it is")]), *((way, way) for way in CLIENT_AUTHS)]
        return forms.ChoiceField(
            choices=choices, required=False, label=label, help_text=text, widget=select_widget
        )
    if not is_new and part in _SECRETS:
        text = f"{text} Empty: as it is.".strip()
    widget: forms.Widget = _area() if part in _LONG else text_widget({"autocomplete": "off"})
    if part in _SECRETS and part not in _LONG:
        attrs = {"class": INPUT_CSS, "autocomplete": "new-password"}
        widget = forms.PasswordInput(attrs=attrs)
    is_needed = is_new and part not in ("oauth_scope", "audience")
    return forms.CharField(
        required=is_needed, label=label, help_text=text, widget=widget, strip=part not in _SECRETS
    )


def _form(kind: str, *, is_new: bool) -> type[ReasonForm]:
    origins = "https://host or https://host:port, one a line: where it may be sent."
    if not is_new:
        origins += " A new one needs the secret as well."
    fields: dict[str, Any] = {}
    if is_new:
        fields["project"] = forms.RegexField(
            f"^{PROJECT_ID}$", error_messages={"invalid": PROJECT_ID_SHAPE}, widget=text_widget()
        )
        fields["name"] = forms.RegexField(
            f"^{NAME}$", error_messages={"invalid": NAME_SHAPE}, widget=text_widget()
        )
    fields["origins"] = forms.CharField(required=is_new, widget=_area(), help_text=origins)
    fields |= {part: _field(part, is_new=is_new) for part in _WORDS if part in PARTS[kind]}
    return type(f"{kind.title()}Form", (ReasonForm,), {**fields, "field_order": [*fields]})


def _initial(row: Credential) -> dict[str, Any]:
    """Return what the form of a change shows: all that is no secret."""
    return {**row.details, "origins": "\n".join(row.origins)}


def _origins(row: Credential) -> str:
    return format_html('<span class="mv-clip">{}</span>', ", ".join(row.origins))


def _is_of(kind: str, row: Credential) -> bool:
    return row.kind == kind


def _given(kind: str, cleaned: dict[str, Any]) -> dict[str, Any]:
    given = {part: cleaned[part] for part in PARTS[kind] if cleaned.get(part)}
    if "headers" in given:
        pairs = [line.partition(":") for line in given["headers"].splitlines() if line.strip()]
        given["headers"] = {name.strip(): value.strip() for name, _, value in pairs}
    return given


def _sentence(refused: Exception) -> str:
    if isinstance(refused, BadCredential):
        return " ".join(f"{_named(part)}: {text}" for part, text in refused.problems.items())
    text = str(refused).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _change(request: HttpRequest, row: Credential, cleaned: dict[str, Any]) -> str:
    origins = cleaned["origins"].split() or None
    given = _given(row.kind, cleaned)
    how = {"actor": actor(request), "reason": cleaned["reason"]}
    try:
        credentials.change(row, origins=origins, given=given, **how)
    except (BadCredential, credentials.CredentialRefused) as refused:
        raise ValueError(_sentence(refused)) from None
    return "The credential is changed; messages that waited for it are sent now."


def _delete(request: HttpRequest, row: Credential, cleaned: dict[str, Any]) -> str:
    try:
        credentials.delete(row, actor=actor(request), reason=cleaned["reason"])
    except credentials.CredentialRefused as refused:
        raise ValueError(_sentence(refused)) from None
    row.pk = None  # there is no page of it any more
    return f"The credential {row.name} is deleted."


class TrialForm(ReasonForm):
    """Asks for the URL of a test send."""

    url = forms.CharField(label="URL", widget=text_widget(), help_text="Of one of its origins.")
    field_order = ("url", "reason")


def _try_out(request: HttpRequest, row: Credential, cleaned: dict[str, Any]) -> str:
    how = {"actor": actor(request), "reason": cleaned["reason"]}
    try:
        result = trial.send_test(row, cleaned["url"], **how)
    except (credentials.NotBound, credentials.CredentialRefused, EgressDenied) as refused:
        raise ValueError(_sentence(refused)) from None
    said = visible(result.response_body[:300]).strip()
    came = f"{result.duration_ms:.0f} ms" + (f", and it says: {said}" if said else "")
    if result.error_code:
        raise ValueError(f"Not delivered: {result.error} ({came})")
    return f"Delivered: status {result.status} ({came})"


@admin.register(Credential)
class CredentialAdmin(ReadOnlyAdmin):
    """What requests carry to their origins; secrets are never shown."""

    page_template = "webhooks_app/credential.html"
    list_display = ["named", "project", "shown_kind", "shown_origins", "ends", "at_changed"]
    list_filter = [known_values("kind", "kind", CredentialKind.choices)]
    search_fields = ["scope__exact", "name__startswith"]
    search_help_text = "A project, or the beginning of a name"
    ordering = ["-created_at", "-id"]
    actions_list = ["new"]
    at_changed = utc("updated_at", "changed")
    named = cell("name", attrgetter("name"))
    project = cell("project", attrgetter("scope"))
    shown_kind = cell("kind", lambda row: row.get_kind_display())
    shown_origins = cell("origins", _origins)
    ends = cell(
        "certificate",
        lambda row: certificate_state(row),
        label={"ok": "success", "soon": "warning", "over": "danger", "none": "base"},
    )
    operations = (
        Operation(
            "test",
            "Send a test",
            CHANGE,
            "Sends one signed webhook.ping with this credential, now, and shows what comes back.",
            _try_out,
            form=TrialForm,
            icon="network_ping",
        ),
        *(
            Operation(
                f"change-{kind.replace('_', '-')}",
                "Change",
                CHANGE,
                "What stays empty stays as it is. Messages that wait for it are sent at once.",
                _change,
                form=_form(kind, is_new=False),
                initial=_initial,
                is_offered=partial(_is_of, kind),
                icon="edit",
            )
            for kind in PARTS
        ),
        Operation(
            "remove",  # "delete" is a page of Django's own
            "Delete",
            CHANGE,
            "Only where no endpoint, key, project, task under way or pending message names it.",
            _delete,
            icon="delete",
            is_dangerous=True,
        ),
    )

    def page_context(self, request: HttpRequest, row: Credential) -> dict[str, Any]:
        tone, words = certificate_state(row)
        details = row.details.items()
        return {
            "title": row.name,
            "facts": [(_named(name), _shown(value)) for name, value in details],
            "uses": credentials.uses_of(row),
            "tone": {"ok": "success", "soon": "warning", "over": "danger", "none": ""}[tone],
            "words": words,
        }

    def page_url(self, row: Credential) -> str:
        return super().page_url(row) if row.pk else reverse(LIST)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(partial(_new, self))
        name = "webhooks_app_credential_new_form"
        # Whoever types Django's own address for it comes to the same form.
        add = path("add/", RedirectView.as_view(pattern_name=f"admin:{name}"))
        return [path("new/", view, name=name), add, *super().get_urls()]

    def has_new_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(ADD))

    @action(description="Add a credential", permissions=["new"], icon="add")
    def new(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:webhooks_app_credential_new_form")


def certificate_state(row: Credential) -> tuple[str, str]:
    """Return the state of a credential's client certificate, and words for it."""
    if row.expires_at is None:
        return "none", "-"
    left = row.expires_at - timezone.now()
    if left <= timedelta(0):
        return "over", f"ended {row.expires_at:%Y-%m-%d}"
    tone = "soon" if left <= timedelta(days=WARN_DAYS) else "ok"
    return tone, f"ends {row.expires_at:%Y-%m-%d}"


def _named(part: str) -> str:
    return _WORDS[part][0] if part in _WORDS else part.replace("_", " ").capitalize()


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else visible(str(value))


class KindForm(forms.Form):
    """Asks what kind of credential it is to be."""

    kind = forms.ChoiceField(choices=CredentialKind.choices, widget=select_widget)


def _new(model_admin: CredentialAdmin, request: HttpRequest) -> HttpResponse:
    """Ask for the kind, then for the parts of that kind; a POST stores it."""
    if not model_admin.has_new_permission(request):
        raise PermissionDenied
    kind = request.GET.get("kind", "")
    form_class = _form(kind, is_new=True) if kind in PARTS else KindForm
    form = form_class(request.POST if request.method == "POST" else None)
    if form.is_valid() and kind not in PARTS:
        return redirect(f"{request.path}?kind={form.cleaned_data['kind']}")
    if form.is_valid() and (stored := _stored(request, kind, form)):
        return stored
    return confirm(
        request,
        model_admin,
        title="Add a credential" + (f": {CredentialKind(kind).label}" if kind in PARTS else ""),
        explain="Requests to its origins carry it, beside their signature. It is stored encrypted,"
        " and nobody can read it again."
        if kind in PARTS
        else "What does the receiver, or what stands before it, ask for?",
        lines=[],
        form=form,
        back=reverse(LIST),
        submit="Store it" if kind in PARTS else "Go on",
    )


def _stored(request: HttpRequest, kind: str, form: forms.Form) -> HttpResponse | None:
    given = form.cleaned_data
    try:
        row = credentials.create(
            given["project"],
            given["name"],
            kind,
            given["origins"].split(),
            _given(kind, given),
            actor=actor(request),
            reason=given["reason"],
        )
    except BadCredential as bad:
        for part, text in bad.problems.items():
            form.add_error(part, text)
        return None
    except credentials.CredentialRefused as refused:
        form.add_error(None, _sentence(refused))
        return None
    messages.success(request, f"The credential {row.name} is stored.")
    return HttpResponseRedirect(reverse("admin:webhooks_app_credential_change", args=[row.pk]))
