"""How are models on Replicate called? Predictions: create, get, cancel (its HTTP API, v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks_app.providers.base import BadSignature, Callback, CancelOutcome, ProviderError
from tasks_app.providers.remote.base import (
    JobStatus,
    RemoteProvider,
    Submitted,
    UnknownJob,
    Work,
    WorkFailed,
    places,
    safe_id,
)
from tasks_app.providers.remote.client import ProviderClient, is_refusal, setting
from webhooks_app import signing

RUNNING = frozenset({"starting", "processing", "queued"})
ENDED = frozenset({"failed", "canceled", "aborted"})


class ReplicateProvider(RemoteProvider):
    """``model``: ``owner/name`` for an official one, ``owner/name:version`` for any other."""

    name = "replicate"
    url_setting = "REPLICATE_BASE_URL"
    key_setting = "REPLICATE_API_TOKEN"

    def headers(self, key: str) -> dict[str, str]:
        """Return the bearer token."""
        return {"Authorization": f"Bearer {key}"}

    async def submit(self, work: Work, line: ProviderClient) -> Submitted:
        """Create a prediction."""
        owner_and_name, _, version = work.model.partition(":")
        body: dict[str, Any] = {"input": self.inputs(work)}
        if work.callback_url.startswith("https://"):  # Replicate calls nothing else
            body |= {"webhook": work.callback_url, "webhook_events_filter": ["completed"]}
        path = f"v1/models/{owner_and_name}/predictions"
        if version:
            path, body = "v1/predictions", {"version": version, **body}
        answer = await line.call("POST", path, body)
        return Submitted({"id": safe_id(answer.json().get("id"))})

    async def look_one(self, work: Work, line: ProviderClient) -> JobStatus:
        """Get the prediction."""
        answer = await known(line, "GET", f"v1/predictions/{safe_id(work.remote.get('id'))}")
        return read(answer)

    async def stop(self, work: Work, line: ProviderClient) -> CancelOutcome:
        """Cancel the prediction."""
        await known(line, "POST", f"v1/predictions/{safe_id(work.remote.get('id'))}/cancel")
        return CancelOutcome.REQUESTED

    def read_callback(self, headers: Mapping[str, str], body: bytes, token: str) -> Callback:
        """Check the Standard Webhooks signature, where REPLICATE_WEBHOOK_SECRET is set."""
        secret = setting("REPLICATE_WEBHOOK_SECRET")
        if secret and not signing.verify(secret, headers, body):
            raise BadSignature
        return Callback()


async def known(line: ProviderClient, method: str, path: str) -> dict[str, Any]:
    """Call an address of one job.

    Raises:
        UnknownJob: the answer is 404 or 410.
    """
    try:
        return (await line.call(method, path)).json()
    except ProviderError as error:
        if error.status in (404, 410):
            raise UnknownJob from None
        raise


def read(prediction: dict[str, Any]) -> JobStatus:
    """Return the state of a prediction (of Replicate or Cog).

    Raises:
        WorkFailed: it ended without a result.
        ProviderError: its status is unknown.
    """
    status = prediction.get("status")
    if status == "succeeded":
        return JobStatus(is_done=True, outputs=places(prediction.get("output")))
    if status in RUNNING:
        return JobStatus(is_done=False, fraction=0.0 if status != "processing" else 0.3)
    if status in ENDED:
        words = str(prediction.get("error") or "")
        if is_refusal(words.encode()):
            raise WorkFailed("content_refused", "The provider refused the content.", words=words)
        raise WorkFailed("render_failed", "The provider's model failed.", words=words)
    raise ProviderError("provider_unavailable", "The provider's answer has no known status.")
