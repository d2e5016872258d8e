"""What do all views of webhooks have in common? Only callers with an `access.Access` may use them.

The project's defaults for DRF set throttling, parsers and renderers; its permission classes are not
used here.
"""

from __future__ import annotations

from django.urls import reverse
from django.utils.module_loading import import_string
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webhooks_app.api.access import HasAccess
from webhooks_app.api.problems import field_problems, invalid
from webhooks_app.conf import webhook_settings


class WebhookView(APIView):
    """A view that answers 401 to requests without an `access.Access`."""

    permission_classes = [HasAccess]

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return those of WEBHOOKS["AUTHENTICATION_CLASSES"], else the project's for DRF."""
        named = webhook_settings.AUTHENTICATION_CLASSES
        return [import_string(name)() for name in named] or list(super().get_authenticators())

    def handle_exception(self, exc: Exception) -> Response:
        """Answer validation errors with 422, under every exception handler."""
        if isinstance(exc, ValidationError):
            exc = invalid(field_problems(exc.detail))
        return super().handle_exception(exc)


def location(request: Request, name: str, key: object) -> dict[str, str]:
    """Return the header that says where an object is, under the prefix of the request."""
    match = request.resolver_match
    namespace = match.namespace if match else None
    return {"Location": reverse(f"webhooks:{name}", args=[key], current_app=namespace)}
