"""What does each provider take of a task, and what happens when one calls?

The list is made from what the providers accept. A call makes its job be looked at now; only Cog's
brings a result.
"""

from __future__ import annotations

import re
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import providers
from tasks_app.api.assets.uploads import refuse_broken
from tasks_app.api.openapi.hooks import operation
from tasks_app.api.task_data import parameters
from tasks_app.models import RemoteJob
from tasks_app.providers import prices
from tasks_app.providers.accepts import Accepts, Limits, Values
from tasks_app.providers.base import BadSignature, Provider
from tasks_app.providers.prices import Money
from tasks_app.state import remote_jobs
from tasks_app.task_types import TASK_TYPES
from webhooks_app.api.problems import ApiProblem

_PIECE_BYTES = 256 * 1024
_TOKEN = re.compile(r"[0-9a-f]{48}")

logger = structlog.get_logger(__name__)


class ProviderCallbackView(APIView):
    """The address that a provider gets with each job; its last part cannot be guessed.

    Answers 204 whatever comes, so that nobody learns which jobs there are; 401 for a call whose
    signature is not the provider's.
    """

    authentication_classes = []
    permission_classes = [AllowAny]
    parser_classes = []

    @extend_schema(exclude=True)
    def post(self, request: Request, name: str, token: str) -> Response:
        """Take the hint, or keep the result, before answering."""
        if not _TOKEN.fullmatch(token):
            return Response(status=204)
        job = RemoteJob.objects.filter(callback_token=token).first()
        if job is None or job.provider != name:
            return Response(status=204)
        # Any: a `RemoteProvider`, whose import here would load a client for HTTP.
        provider: Any = providers.provider_named(job.task_type, name)
        if provider is None or provider.is_local:  # the configuration has changed
            return Response(status=204)
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            body = _whole_body(request)
            if body is None:
                told = provider.oversized_callback()
            else:
                told = provider.read_callback(headers, body, token)
        except BadSignature:
            logger.warning("Provider's call is not signed by it", provider=name, job_id=str(job.id))
            text = "The signature is missing or does not fit."
            raise ApiProblem(401, "unauthorized", text) from None
        if told.result is not None:
            remote_jobs.keep_result(name, token, told.result)
        else:
            remote_jobs.hint(name, token)
        return Response(status=204)


def _whole_body(request: Request) -> bytes | None:
    """Return a call's body, a large one while it comes; None where it is longer than allowed.

    Raises:
        ApiProblem: it came too slowly, or broke off.
    """
    limit = settings.PROVIDER_CALLBACK_MAX_BYTES
    length = int(request.META.get("CONTENT_LENGTH") or 0)
    # Without a length the web server gives the largest one, and a byte more.
    if length > limit and "HTTP_TRANSFER_ENCODING" not in request.META:
        return None
    if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE and not connection.in_atomic_block:
        connection.close()  # none is held while a slow caller sends
    body = bytearray()
    try:
        while piece := request._request.read(_PIECE_BYTES):
            body += piece
    except OSError as error:
        refuse_broken(error)
    return bytes(body) if len(body) <= limit else None


class ProviderListView(APIView):
    """The providers of all task types."""

    @operation("listProviders", "Which providers there are, and what they take", "Providers")
    def get(self, request: Request) -> Response:
        """Return what is configured."""
        found = []
        for task_type in TASK_TYPES:
            try:
                provider = providers.get_provider(task_type)
            except providers.UnknownProvider:
                continue
            found.append(one_provider(task_type, provider))
        return Response({"providers": found})


def one_provider(task_type: str, provider: Provider) -> dict[str, Any]:
    """Return what a provider takes of one task type, by model.

    A model that takes nothing at all is one of another task type.
    """
    accepted = {model: provider.accepts(task_type, model) for model in provider.models}
    return {
        "task_type": task_type,
        "provider": provider.name,
        "models": [
            {
                "model": model or None,
                "is_default": model == provider.models[0],
                "price": _price(model),
                **_taken(task_type, accepts),
            }
            for model, accepts in accepted.items()
            if accepts.parameters
        ],
    }


def _price(model: str) -> dict[str, str] | None:
    price = prices.price_of(model)
    if price is None:
        return None
    return {"unit": price.unit, **Money(price.amount, price.currency).told()}


def _taken(task_type: str, accepts: Accepts) -> dict[str, Any]:
    return {
        "parameters": {
            name: {"pointer": pointer, **_bounds(field), **_told(accepts.parameters[name])}
            for name, (pointer, field) in parameters(task_type).items()
            if name in accepts.parameters
        },
        "inputs": {name: _limits(limits) for name, limits in accepts.inputs.items()},
        "options": {name: _told(values) for name, values in accepts.options.items()},
        "passes_options": accepts.passes_options,
        "closed_options": list(accepts.closed_options),
    }


def _bounds(field: Any) -> dict[str, Any]:
    """Return what the API itself lets a client say there."""
    schema = field.schema() if hasattr(field, "schema") else {}  # a list of objects has none
    names = {"enum": "choices", "minimum": "least", "maximum": "most", "maxLength": "longest"}
    return {ours: schema[theirs] for theirs, ours in names.items() if theirs in schema}


def _told(values: Values) -> dict[str, Any]:
    """Return what is said of a parameter; what is not said is left out."""
    told = {
        "choices": list(values.choices) or None,
        "least": values.least,
        "most": values.most,
        "longest": values.longest,
        "largest": "x".join(map(str, values.sides)) if values.sides else None,
        "shapes": list(values.shapes) or None,
        "languages": list(values.languages) or None,
        "only_with": _condition(values),
        "default": values.default,
        "note": values.note or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _condition(values: Values) -> dict[str, Any] | None:
    if values.only_with is None:
        return None
    name, wanted = values.only_with
    return {"parameter": name, "choices": list(wanted)}


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "kinds": list(limits.kinds),
        "most": limits.most,
        "max_bytes": limits.max_bytes,
        "max_side": limits.max_side,
        "max_seconds": limits.max_seconds,
    }
