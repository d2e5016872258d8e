"""Does the webhook API accept exactly the app's own callers, in any project that uses it?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from webhooks_app import urls
from webhooks_app.checks import check_settings

UUID = "5dd36c6d-24b2-4f6e-8905-9eb7deb53bf9"
OPERATIONS = [
    (pattern, method)
    for pattern in urls.urlpatterns
    for method in ("get", "head", "post", "put", "patch", "delete", "options")
    if hasattr(pattern.callback.cls, method) or method == "head"
]
NAMES = [f"{method} {pattern.pattern}" for pattern, method in OPERATIONS]


class Owner(BaseAuthentication):
    """Allows everything in one project."""

    def authenticate(self, request: Request) -> tuple[None, Any]:
        """Return such an access."""
        return None, SimpleNamespace(scope="shop", allows=lambda action: True)


class OnLookers(Owner):
    """Allows reading only."""

    def authenticate(self, request: Request) -> tuple[None, Any]:
        """Return an access that may read."""
        return None, SimpleNamespace(scope="shop", allows=lambda action: action == "read")


class SessionUser(BaseAuthentication):
    """Sets a user without scopes, as DRF's session authentication does."""

    def authenticate(self, request: Request) -> tuple[Any, None]:
        """Return a user with all rights in the admin."""
        return get_user_model()(username="root", is_superuser=True, is_staff=True), None


class Token(BaseAuthentication):
    """Leaves a token in ``request.auth``, as those of DRF and of JWT do."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        """Return a user and the token."""
        return get_user_model()(username="root", is_superuser=True), SimpleNamespace(key="abc")


def call(pattern: Any, method: str, authentication: list[Any]) -> Response:
    """Send a request to a view that authenticates in this way."""
    view = pattern.callback.cls.as_view(authentication_classes=authentication, throttle_classes=[])
    ids = {name: "1" if name == "message_id" else UUID for name in pattern.pattern.converters}
    request = getattr(APIRequestFactory(), method)("/", {}, format="json")
    return view(request, **ids)


@pytest.mark.parametrize("authentication", [[], [SessionUser], [Token]])
@pytest.mark.parametrize(("pattern", "method"), OPERATIONS, ids=NAMES)
def test_without_an_access_every_address_refuses(
    pattern: Any, method: str, authentication: list[Any]
) -> None:
    """No method of any view answers without a key, with a session, or with a foreign token."""
    answer = call(pattern, method, authentication)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"]


@pytest.mark.django_db
@pytest.mark.parametrize(("pattern", "method"), OPERATIONS, ids=NAMES)
def test_with_an_access_every_address_answers(pattern: Any, method: str) -> None:
    """The refusals come from the missing access, since with one the same requests get through."""
    assert call(pattern, method, [Owner]).status_code not in (401, 403)


def test_the_secret_is_for_who_may_administer() -> None:
    """An access that may read is refused the signing secret with the scope that it lacks."""
    (secret,) = [p for p in urls.urlpatterns if str(p.pattern) == "webhooks/signing-secret"]
    answer = call(secret, "get", [OnLookers])
    assert answer.status_code == 403
    assert b"admin" in answer.content


def test_a_class_that_is_not_there_is_found_by_the_checks(settings: Any) -> None:
    """A misspelt authentication class is told at start, and not by the first request."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "AUTHENTICATION_CLASSES": ["tests.nowhere.Owner"]}
    assert [found.id for found in check_settings(None)] == ["webhooks.E008"]
