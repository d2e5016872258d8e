"""How is a row shown, and how is every action on it confirmed and recorded?

Pages are read-only; every change is an `Operation`: a button leads to a page that says what will
happen and asks for a reason, and a POST does it. A GET never changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from webhooks_app.admin.lists import BoundedPaginator, QuietChangeList, SinceFilter, refuse
from webhooks_app.admin.theme import INPUT_CSS, STYLES, ChangeList, ModelAdmin, display
from webhooks_app.models import WebhookMessage
from webhooks_app.notation import sentence
from webhooks_app.operators import record
from webhooks_app.outbox import InvalidFilter
from webhooks_app.shown import safe_url


def text_widget(attrs: dict[str, str] | None = None) -> forms.TextInput:
    return forms.TextInput(attrs={"class": INPUT_CSS, **(attrs or {})})


def cell(words: str, shown: Callable[[Any], Any], **options: Any) -> Any:
    """Return a list's column: its heading and what it shows of a row; options as for `display`."""

    @display(description=words, **options)
    def show(self: ModelAdmin, row: Any) -> Any:
        return shown(row)

    return show


def utc(column: str, words: str) -> Any:
    """Return a list's column of times whose heading names the time zone."""

    return cell(f"{words} (UTC)", attrgetter(column), empty_value="-")


def clipped(url: str) -> str:
    """Return a URL without possible secrets, cut off where its column ends."""
    return format_html('<span class="mv-clip">{}</span>', safe_url(url))


class ReasonForm(forms.Form):
    """Asks for a reason, which is stored in the operators' log."""

    reason = forms.CharField(
        max_length=500,
        widget=text_widget(attrs={"autocomplete": "off"}),
        help_text="Kept with your name in the operators' record.",
    )


@dataclass(frozen=True)
class Operation:
    """Something an operator may do to one row.

    ``perform(request, row, cleaned)`` does it and returns the sentence to show; it raises
    ValueError with a sentence when it cannot be done. ``permission``: a full permission name.
    ``initial(row)`` returns what the form's fields show at first.
    """

    name: str
    label: str
    permission: str
    explain: str
    perform: Callable[[HttpRequest, Any, dict[str, Any]], str]
    form: type[forms.Form] = ReasonForm
    is_offered: Callable[[Any], bool] = lambda row: True
    icon: str = "play_arrow"
    is_dangerous: bool = False
    initial: Callable[[Any], dict[str, Any]] = lambda row: {}


def actor(request: HttpRequest) -> str:
    """Return the name under which an operator's actions are stored."""
    return request.user.get_username()


def sent_ping(message: WebhookMessage) -> str:
    """Return the sentence after a ping was sent, with a link to its message."""
    page = reverse("admin:webhooks_app_webhookmessage_change", args=[message.pk])
    return format_html('A ping is on its way: <a href="{}">see what comes back</a>.', page)


def shown_once(words: str, secret: str) -> str:
    """Return the sentence that shows a secret, this once, with a button that copies it."""
    return format_html(
        "{} It is shown only now, copy it: <code class=mv-key>{}</code> "
        '<button type="button" class="mv-button mv-copy" data-copy="previous">Copy</button>',
        words,
        secret,
    )


def record_action(
    request: HttpRequest, action: str, target: str, reason: str, scope: str = ""
) -> None:
    record.note(actor(request), action, target, reason, scope=scope)


class ReadOnlyAdmin(ModelAdmin):
    """A read-only list and page, with `Operation` buttons."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # facets would count the whole table once per choice
    list_per_page = 50
    list_disable_select_all = True
    list_fullwidth = True
    sortable_by: Sequence[str] = ()
    #: The sort order for the filter by time, if the list has another one.
    newest_first: Sequence[str] = ()
    operations: tuple[Operation, ...] = ()
    page_template = ""
    change_form_template: str | None = None
    #: Filters rows by a search term, or raises InvalidFilter; None: Django's search.
    search: Callable[[QuerySet[Any], str], QuerySet[Any]] | None = None

    def __init__(self, model: type[Model], site: admin.AdminSite) -> None:
        super().__init__(model, site)
        if self.page_template:
            self.change_form_template = self.page_template

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QuietChangeList

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Paginator[Any]:
        paginator = super().get_paginator(request, *args, **kwargs)
        if SinceFilter.parameter_name in request.GET:
            paginator.counted_by = self.newest_first or self.get_ordering(request)
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search only what an index can answer; say what can be searched for, if it is nothing."""
        if self.search is None:
            return super().get_search_results(request, queryset, search_term)
        if not search_term.strip():
            return queryset, False
        try:
            return self.search(queryset, search_term), False
        except InvalidFilter as refused:
            return refuse(request, queryset, sentence(str(refused).removeprefix("search: "))), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return no fields where our own template shows the row."""
        return [] if self.page_template else list(super().get_fieldsets(request, obj))

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return the template context for ``page_template``, besides ``row``."""
        return {}

    def offered(self, request: HttpRequest, row: Any) -> list[Operation]:
        """Return the operations this operator may do to this row now."""
        may = request.user.has_perm
        return [o for o in self.operations if may(o.permission) and o.is_offered(row)]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        if not self.page_template or object_id is None:
            return super().changeform_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.find(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "row": row,
            "title": str(row),
            "offered": self.offered(request, row),
            "is_popup": False,
            "own_styles": STYLES,
            **self.page_context(request, row),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.page_template, context)

    def find(self, request: HttpRequest, object_id: str) -> Any:
        row = None if "\x00" in object_id else self.get_object(request, object_id)
        if row is None:
            raise Http404
        return row

    def get_urls(self) -> list[URLPattern]:
        opts = self.opts
        return [
            path(
                f"<path:object_id>/do/{operation.name}/",
                self.admin_site.admin_view(partial(self.operate, operation=operation)),
                name=f"{opts.app_label}_{opts.model_name}_{operation.name}",
            )
            for operation in self.operations
        ] + list(super().get_urls())

    def operate(
        self, request: HttpRequest, object_id: str, *, operation: Operation
    ) -> HttpResponse:
        """Ask for confirmation (GET), or do it (POST)."""
        if not request.user.has_perm(operation.permission):
            raise PermissionDenied
        row = self.find(request, object_id)
        given = request.POST if request.method == "POST" else None
        form = operation.form(given, initial=operation.initial(row))
        if request.method == "POST" and form.is_valid():
            return self._perform(request, row, operation, form.cleaned_data)
        return confirm(
            request,
            self,
            title=operation.label,
            explain=operation.explain,
            lines=[self.name_of(row)],
            form=form,
            back=self.page_url(row),
            is_dangerous=operation.is_dangerous,
        )

    def _perform(
        self, request: HttpRequest, row: Any, operation: Operation, cleaned: dict[str, Any]
    ) -> HttpResponse:
        try:
            if not operation.is_offered(row):
                raise ValueError("That is not possible any more; this is how it stands now.")
            messages.success(request, operation.perform(request, row, cleaned))
        except ValueError as error:
            messages.error(request, str(error))
        return HttpResponseRedirect(self.page_url(row))

    def name_of(self, row: Any) -> str:
        """Return the row's name in a form that may be shown."""
        return str(row)

    def page_url(self, row: Any) -> str:
        opts = self.opts
        return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[row.pk])

    def log_change(self, *args: Any, **kwargs: Any) -> Any:
        """Write no LogEntry: `OperatorAction` is the record."""


def confirm(
    request: HttpRequest,
    model_admin: ModelAdmin,
    *,
    title: str,
    explain: str,
    lines: Sequence[str],
    form: forms.Form,
    back: str,
    facts: Sequence[tuple[str, str]] = (),
    hidden: Sequence[tuple[str, str]] = (),
    is_dangerous: bool = False,
    submit: str = "",
) -> HttpResponse:
    """Show what will happen, and ask for the reason.

    ``facts``: names and texts of what it means, ``lines``: some of the rows, ``hidden``: names and
    values to post along.
    """
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "explain": explain,
        "facts": facts,
        "lines": lines,
        "form": form,
        "back": back,
        "hidden": hidden,
        "is_dangerous": is_dangerous,
        "submit": submit or title,
        "own_styles": STYLES,
    }
    return TemplateResponse(request, "webhooks_app/confirm.html", context)
