"""From where may the admin be seen? From ADMIN_ALLOW_NETWORKS; elsewhere it does not exist.

And for how much may it search at once: every word is looked for in every column.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from moviesvc.problems import nothing_here, render
from tasks_app.access import throttling
from webhooks_app.api.problems import ApiProblem

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
