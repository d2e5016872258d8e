"""What protects ``/admin/``? Networks, limits for searches, login throttling, sessions, CSP.

Outside ADMIN_ALLOW_NETWORKS the admin answers 404. Sessions, logins and messages exist only under
``/admin/``: API clients have a key and no cookies, and setting these up for each of their requests
took a tenth of the time of a submit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponseBase

from moviesvc.problems import nothing_here, page, render
from tasks_app.access import throttling
from tasks_app.media import serve
from webhooks_app.api.problems import ApiProblem

#: Limit for a search: every word is looked for in every column.
MAX_WORDS = 12
#: Limit for any other parameter: a list repeats it in the link of every filter and column.
MAX_VALUE = 1_000


def is_in(networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], text: str) -> bool:
    """Say whether an address lies in one of the networks; text that is no address does not."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # a proxy sent something else
        return False
    return any(address in network for network in networks)


class AdminNetwork:
    """Answer 404 under ``/admin/`` to clients outside ADMIN_ALLOW_NETWORKS, if it is set."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_admin = request.path.startswith(settings.ADMIN_PREFIX.rstrip("/"))
        networks = settings.ADMIN_ALLOW_NETWORKS
        if is_admin and networks and not is_in(networks, throttling.client_address(request)):
            return nothing_here(request)
        query = request.GET.lists() if is_admin else ()
        if is_admin and len(request.GET.get("q", "").split()) > MAX_WORDS:
            text = f"Search for {MAX_WORDS} words at most: each is looked for in every column."
            return render(request, ApiProblem(400, "too_many_words", text))
        if any(len(value) > MAX_VALUE for name, given in query if name != "q" for value in given):
            text = f"A parameter of an address here has at most {MAX_VALUE} characters."
            return render(request, ApiProblem(400, "value_too_long", text))
        return self.get_response(request)


class ForPeople:
    """Mixin: use the other base, a middleware, only for requests under ``/admin/``."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_for_people = request.path.startswith(settings.ADMIN_PREFIX)
        answer = super().__call__ if is_for_people else self.get_response  # type: ignore[misc]
        return cast(HttpResponseBase, answer(request))


class Sessions(ForPeople, SessionMiddleware):
    """Django's sessions, under ``/admin/`` only."""


class Logins(ForPeople, AuthenticationMiddleware):
    """Django's authentication, under ``/admin/`` only."""


class Messages(ForPeople, MessageMiddleware):
    """Django's messages, under ``/admin/`` only."""


class AdminLoginThrottle:
    """Limit login attempts to the admin per address and minute."""

    TRIES_PER_MINUTE = 10

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method == "POST" and request.path == settings.LOGIN_URL:
            address = throttling.client_address(request)
            verdict = throttling.take(f"login:{address}", self.TRIES_PER_MINUTE)
            if not verdict.is_allowed:
                title = "Too many attempts to log in from your address"
                wait = "Wait a minute, then try again."
                answer = page(request, 429, title, wait, "moviesvc/wait.html")
                for name, value in throttling.rate_limited(verdict).headers.items():
                    answer[name] = value
                return answer
        return self.get_response(request)


class ContentSecurityPolicy:
    """Set the Content-Security-Policy: own sources only, and nothing inline except styles."""

    # style-src: the admin theme and the API page set style attributes from their scripts.
    # unsafe-eval: the admin theme's Alpine.js compiles its expressions.
    PAGES = (
        "default-src 'self'; script-src 'self'{eval}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:{media}; media-src 'self'{media}; object-src 'none'; "
        "base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
    DATA = "default-src 'none'; frame-ancestors 'none'"

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Add the header, unless the view set one of its own."""
        response = self.get_response(request)
        is_page = response.get("Content-Type", "").startswith("text/html")
        is_admin = request.path.startswith(settings.ADMIN_PREFIX)
        page = self.PAGES.format(
            eval=" 'unsafe-eval'" if is_admin else "",
            media=f" {serve.foreign_origin()}".rstrip() if is_admin and is_page else "",
        )
        response.setdefault("Content-Security-Policy", page if is_page else self.DATA)
        return response
