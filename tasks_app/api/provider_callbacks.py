"""What happens when a provider calls? Its job is looked at now; only Cog's call brings a result."""

from __future__ import annotations

import structlog
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app import providers
from tasks_app.models import RemoteJob
from tasks_app.providers.base import BadSignature
from tasks_app.state import remote_jobs
from webhooks_app.api.problems import ApiProblem

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
        job = RemoteJob.objects.filter(provider=name, callback_token=token).first()
        if job is None:
            return Response(status=204)
        try:
            provider = providers.get_provider(job.task_type)
        except providers.UnknownProvider:
            return Response(status=204)
        read = getattr(provider, "read_callback", None)
        if read is None or provider.name != name:  # the configuration has changed
            return Response(status=204)
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            told = read(headers, request._request.body, token)
        except BadSignature:
            logger.warning("Provider's call is not signed by it", provider=name, job_id=str(job.id))
            text = "The signature is missing or does not fit."
            raise ApiProblem(401, "unauthorized", text) from None
        if told.result is not None:
            remote_jobs.keep_result(name, token, told.result)
        else:
            remote_jobs.hint(name, token)
        return Response(status=204)
