"""What stands before ``/admin/``? Its networks, bounds of a search, logins, and what pages load.

Outside ADMIN_ALLOW_NETWORKS the admin does not exist. Sessions, logins and messages are for people
alone: a client of the API has a key and no cookies, and making a session and a message storage for
each of its requests took a tenth of a submit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from moviesvc.problems import nothing_here, page, render
from tasks_app.access import throttling
from tasks_app.media import serve
from webhooks_app.api.problems import ApiProblem

#: Of a search: every word is looked for in every column.
MAX_WORDS = 12
#: Of any other parameter: a list repeats them all in the link of every filter and column.
MAX_VALUE = 1_000


def is_in(networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], text: str) -> bool:
    """Tell whether an address lies in one of the networks; what is no address does not."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # a proxy that says what is none
        return False
    return any(address in network for network in networks)


class AdminNetwork:
    """Answer 404 below ``/admin/`` to everybody outside the networks, where some are named."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Let the request through, or pretend that there is nothing."""
        is_admin = request.path.startswith(settings.ADMIN_PREFIX.rstrip("/"))
        if is_admin and not self._is_welcome(request):
            return nothing_here(request)
        query = request.GET.lists() if is_admin else ()
        if is_admin and len(request.GET.get("q", "").split()) > MAX_WORDS:
            text = f"Search for {MAX_WORDS} words at most: each is looked for in every column."
            return render(request, ApiProblem(400, "too_many_words", text))
        if any(len(value) > MAX_VALUE for name, given in query if name != "q" for value in given):
            text = f"A parameter of an address here has at most {MAX_VALUE} characters."
            return render(request, ApiProblem(400, "value_too_long", text))
        return self.get_response(request)

    @staticmethod
    def _is_welcome(request: HttpRequest) -> bool:
        networks = settings.ADMIN_ALLOW_NETWORKS
        return not networks or is_in(networks, throttling.client_address(request))


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


class AdminLoginThrottle:
    """Slow down guessing of admin passwords: so many tries a minute per address."""

    TRIES_PER_MINUTE = 10

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Let a login through, or answer 429."""
        if request.method == "POST" and request.path == settings.LOGIN_URL:
            address = throttling.client_address(request)
            verdict = throttling.take(f"login:{address}", self.TRIES_PER_MINUTE)
            if not verdict.is_allowed:
                return _wait_and_see(request, throttling.rate_limited(verdict))
        return self.get_response(request)


def _wait_and_see(request: HttpRequest, problem: ApiProblem) -> HttpResponse:
    """Return the answer for a person at the login page."""
    title = "Too many attempts to log in from your address"
    wait = "Wait a minute, then try again."
    answer = page(request, problem.status_code, title, wait, "moviesvc/wait.html")
    for name, value in problem.headers.items():
        answer[name] = value
    return answer


class ContentSecurityPolicy:
    """Say which sources a page of ours may load: its own, and nothing inline but styles."""

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
