"""What does an error look like? `application/problem+json` (RFC 9457) for every one of them.

Errors of Django REST framework go through `exception_handler`; what Django or a middleware would
answer as HTML goes through `ProblemMiddleware`. Pages under ``/admin/`` stay HTML.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import (
    ObjectDoesNotExist,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import is_valid_path
from django.utils.encoding import escape_uri_path
from rest_framework import exceptions
from rest_framework.views import set_rollback

from tasks_app.api import json_format
from webhooks_app.api.problems import ApiProblem, field_problems, invalid, not_found
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
DATABASE_RETRY_SECONDS = 2
#: Called by load balancers, orchestrators and metrics collectors.
PROBED = {"/api/v1/health", "/api/v1/health/ready", "/metrics"}
_OWN_HOST = urlsplit(settings.PUBLIC_URL).netloc
#: Characters of a URL with its query, and of all headers with their names: the usual defaults of
#: web servers, so that the limits do not depend on which one is in front.
MAX_ADDRESS = 8_192
MAX_HEADERS = 32_768
#: Backslashes times characters of a cookie: at most 0.05 s in `http.cookies._unquote` of Python
#: before 3.11.10 and 3.12.6, where the time grows with their square.
MAX_COOKIE_ESCAPES = 8_000_000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GetResponse = Callable[[HttpRequest], HttpResponseBase]

#: Our codes for DRF's exceptions.
_CODES = {
    "parse_error": "malformed_json",
    "authentication_failed": "unauthorized",
    "not_authenticated": "unauthorized",
    "permission_denied": "forbidden",
    "throttled": "rate_limited",
}
_ALLOW_TELLS = "This address does not know that method; Allow lists those it knows."
#: Codes and texts for errors of the framework.
_FOREIGN = {
    400: ("bad_request", "The request cannot be understood."),
    403: ("forbidden", "This is not allowed."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", _ALLOW_TELLS),
    413: ("too_large", "The request body is too large."),
    500: ("internal_error", "Something went wrong here; it is logged under the request id."),
    503: ("unavailable", "Not now; try again."),
}
#: Codes of Django REST framework whose own sentence does not say what to do -> one that does.
_ADVICE = {
    "method_not_allowed": _ALLOW_TELLS,
    "not_acceptable": 'Answers are JSON only: send "Accept: application/json", or no Accept.',
}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """Answer an exception of a DRF view; None makes it a 500.

    Not as a DRF response, which a view that renders pages would turn into a page.
    """
    problem = as_problem(error)
    if problem is None:
        return None
    set_rollback()
    return render(context["request"]._request, problem)


def as_problem(error: BaseException | None) -> ApiProblem | None:
    """Return the problem that an exception means to a client, None if the fault is ours."""
    if isinstance(error, ApiProblem):
        return error
    if isinstance(error, exceptions.ValidationError):
        return invalid(field_problems(error.detail))
    if isinstance(error, exceptions.APIException):
        return _from_drf(error)
    if reason := why_unusable(error):
        logger.error("The database cannot be used", reason=reason, error=type(error).__name__)
        wait = {"Retry-After": str(DATABASE_RETRY_SECONDS)}
        detail = f"{reason} Nothing was changed; try again."
        return ApiProblem(503, "unavailable", detail, headers=wait)
    if isinstance(error, RequestDataTooBig):
        return json_format.too_large()
    if isinstance(error, (Http404, ObjectDoesNotExist)):
        # ObjectDoesNotExist: found a moment ago, and deleted since by another request.
        return not_found()
    if isinstance(error, PermissionDenied):
        return ApiProblem(403, *_FOREIGN[403])
    if isinstance(error, SuspiciousOperation):
        return ApiProblem(400, *_FOREIGN[400])
    return None


def _too_long_head(request: HttpRequest) -> ApiProblem | None:
    given = request.META
    if len(given["PATH_INFO"]) + len(given.get("QUERY_STRING", "")) > MAX_ADDRESS:
        detail = f"An address may have at most {MAX_ADDRESS} characters."
        return ApiProblem(414, "address_too_long", detail)
    headers = sum(len(name) + len(given[name]) for name in given if name.startswith("HTTP_"))
    if headers + len(given.get("CONTENT_TYPE", "")) > MAX_HEADERS:
        detail = f"All headers together may have at most {MAX_HEADERS} characters."
        return ApiProblem(431, "headers_too_long", detail)
    cookies = given.get("HTTP_COOKIE", "")
    if cookies.count("\\") * len(cookies) > MAX_COOKIE_ESCAPES:
        return ApiProblem(431, "headers_too_long", "The cookies hold too many backslashes.")
    return None


def _from_drf(error: exceptions.APIException) -> ApiProblem:
    code = str(getattr(error.detail, "code", error.default_code))
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    detail = _ADVICE.get(code, str(error.detail))
    if detail.startswith("Unsupported media type"):  # of its parsers; ours say what to do
        detail += ' Send JSON, with "Content-Type: application/json".'
    return ApiProblem(error.status_code, _CODES.get(code, code), detail, headers=headers)


class ProblemMiddleware:
    """Give every request an id, and turn HTML errors into problems."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        # The request log reads the header, so its lines carry the same id.
        request.META["HTTP_X_REQUEST_ID"] = request.request_id = request_id  # type: ignore[attr-defined]
        if request.path in PROBED:
            # Probes use any Host header; with our own host Django's host check passes.
            request.get_host = lambda: _OWN_HOST  # type: ignore[method-assign]
        problem = _too_long_head(request)
        response = render(request, problem) if problem else self.get_response(request)
        is_page = request.path.startswith(settings.ADMIN_PREFIX)
        is_problem = response.get("Content-Type", "").startswith(CONTENT_TYPE)
        if response.status_code >= 400 and not is_page and not is_problem:
            response = _replace(request, response)
        response["X-Request-ID"] = request_id
        for name, value in getattr(request, "rate_limit_headers", {}).items():
            response.setdefault(name, value)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer an exception of a plain Django view, if the fault is not ours."""
        is_for_people = request.path.startswith(settings.ADMIN_PREFIX)
        if is_for_people and isinstance(error, (Http404, PermissionDenied)):
            return None
        if isinstance(error, DataError) and "%00" in request.META.get("QUERY_STRING", ""):
            error = SuspiciousOperation()  # NUL in a filter of the admin: impossible in PostgreSQL
        problem = as_problem(error)
        return None if problem is None else render(request, problem)


def _replace(request: HttpRequest, response: HttpResponseBase) -> HttpResponse:
    status = response.status_code
    code, detail = _FOREIGN.get(status, (f"http_{status}", ""))
    kept = ("Allow", "Retry-After", "WWW-Authenticate")
    headers = {name: response[name] for name in kept if name in response}
    replacement = render(request, ApiProblem(status, code, detail, headers=headers))
    # Not response.close(): that would end the whole request, database connection included.
    replacement._resource_closers += response._resource_closers  # type: ignore[attr-defined]
    return replacement


def body_of(problem: ApiProblem, path: str, request_id: str) -> bytes:
    """Return the answer, with its members in the order in which people read them."""
    members = {
        "type": f"urn:problem:{problem.code}",
        "title": problem.title or HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "code": problem.code,
        "detail": problem.text,
        "instance": escape_uri_path(path[:MAX_ADDRESS]),
        "request_id": request_id,
        "errors": problem.errors,
        **problem.extra,
    }
    return json_format.dumps(members)


def render(request: HttpRequest, problem: ApiProblem) -> HttpResponse:
    """Return a problem as a plain Django response."""
    return HttpResponse(
        body_of(problem, request.path_info, getattr(request, "request_id", "")),
        status=problem.status_code,
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a URL that no pattern matches (``handler404``)."""
    if request.path.startswith(settings.ADMIN_PREFIX):
        return page(request, 404, "There is nothing here", "It may have been removed since.")
    return nothing_here(request)


def nothing_here(request: HttpRequest) -> HttpResponse:
    """Answer 404, as a problem."""
    code, detail = _FOREIGN[404]
    without_slash = request.path_info.rstrip("/")
    if without_slash != request.path_info and is_valid_path(without_slash):
        detail += f" Leave out the slash at the end: {without_slash}"
    return render(request, ApiProblem(404, code, detail))


def not_allowed(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request without the permission it needs (``handler403``)."""
    if request.path.startswith(settings.ADMIN_PREFIX):
        return page(request, 403, "You may not do this", "It needs a permission you lack.")
    return render(request, ApiProblem(403, *_FOREIGN[403]))


def page(
    request: HttpRequest, status: int, title: str, text: str, template: str = "moviesvc/error.html"
) -> HttpResponse:
    """Return an error as a page of the admin."""
    context = {**admin.site.each_context(request), "title": title, "text": text}
    return TemplateResponse(request, template, context, status=status).render()


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an error of ours (``handler500``), or of the database in a middleware."""
    import sys

    problem = as_problem(sys.exc_info()[1]) or ApiProblem(500, *_FOREIGN[500])
    return render(request, problem)
