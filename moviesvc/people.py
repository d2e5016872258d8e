"""Which middleware is for people alone? Sessions, logins and messages, below ``/admin/``.

A client of the API has a key and no cookies; making a session and a message storage for each of
its requests took a tenth of a submit.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponseBase


class ForPeople:
    """Let a request to any other address pass by the middleware that is mixed in."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer one request."""
        if request.path.startswith(settings.ADMIN_PREFIX):
            answer: HttpResponseBase = super().__call__(request)  # type: ignore[misc]
        else:
            answer = self.get_response(request)
        return answer


class Sessions(ForPeople, SessionMiddleware):
    """Keep who is logged in."""


class Logins(ForPeople, AuthenticationMiddleware):
    """Say who asks."""


class Messages(ForPeople, MessageMiddleware):
    """Carry a sentence to the next page."""
