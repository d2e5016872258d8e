"""Which style does the admin have? django-unfold's if the project installed it, else Django's.

All differences between the two are in this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from django import forms
from django.apps import apps
from django.contrib.admin import widgets
from django.urls import reverse
from django.utils.html import format_html

if TYPE_CHECKING or apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin
    from unfold.decorators import action, display
    from unfold.views import ChangeList
    from unfold.widgets import (
        INPUT_CLASSES,
        UnfoldAdminCheckboxSelectMultipleWidget,
        UnfoldAdminDecimalFieldWidget,
        UnfoldAdminIntegerFieldWidget,
        UnfoldAdminSelectWidget,
    )

    whole_number_widget = UnfoldAdminIntegerFieldWidget
    number_widget = UnfoldAdminDecimalFieldWidget
    select_widget = UnfoldAdminSelectWidget
    choices_widget = UnfoldAdminCheckboxSelectMultipleWidget
    # The theme's classes, without its own maximum width, which our stylesheet could not override.
    INPUT_CSS = " ".join(name for name in INPUT_CLASSES if not name.startswith("max-w"))
    #: Our stylesheets for pages; the theme gets them from its own settings instead.
    STYLES: tuple[str, ...] = ()
    LIST_TEMPLATE = None
else:
    from django.contrib import admin
    from django.contrib.admin.decorators import action as plain_action
    from django.contrib.admin.views.main import ChangeList

    STYLES = ("webhooks_app/admin.css", "webhooks_app/plain.css")
    #: Shows the buttons of ``actions_list``, as the theme does by itself.
    LIST_TEMPLATE = "webhooks_app/change_list.html"
    INPUT_CSS = ""
    whole_number_widget = widgets.AdminIntegerFieldWidget
    number_widget = forms.NumberInput
    select_widget = forms.Select
    choices_widget = forms.CheckboxSelectMultiple

    class ModelAdmin(admin.ModelAdmin):
        """Django's admin, with the stylesheets of our badges and bars."""

        change_list_template = LIST_TEMPLATE
        actions_list: tuple[str, ...] = ()

        @property
        def media(self) -> forms.Media:
            return super().media + forms.Media(css={"all": STYLES})

        def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
            """Show the list, with a button for each permitted action of ``actions_list``."""
            buttons = [self._button(name) for name in self.actions_list if self._may(request, name)]
            return super().changelist_view(
                request, {"list_buttons": buttons, **(extra_context or {})}
            )

        def _may(self, request: Any, name: str) -> bool:
            needed = getattr(getattr(self, name), "allowed_permissions", ())
            return all(getattr(self, f"has_{each}_permission")(request) for each in needed)

        def _button(self, name: str) -> dict[str, str]:
            page = f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}_form"
            return {"url": reverse(page), "label": getattr(self, name).short_description}

    def action(*, icon: str = "", **kwargs: Any) -> Callable[[Any], Any]:
        return plain_action(**kwargs)

    def display(*, label: Mapping[str, str] | None = None, **kwargs: Any) -> Callable[[Any], Any]:
        """Describe a column; with ``label``, which maps values to tones, it is a badge."""
        from django.contrib.admin.decorators import display as plain_display

        def decorate(function: Any) -> Any:
            @wraps(function)
            def shown(self: Any, row: Any) -> Any:
                found = function(self, row)
                if label is None:
                    return found
                value, text = found
                tone = label.get(value, "base")
                return format_html('<span class="mv-badge mv-{}">{}</span>', tone, text)

            return plain_display(**kwargs)(shown)

        return decorate


__all__ = [
    "INPUT_CSS",
    "STYLES",
    "ChangeList",
    "ModelAdmin",
    "action",
    "choices_widget",
    "display",
    "number_widget",
    "select_widget",
    "whole_number_widget",
]
