"""How are models on Replicate called? Predictions: create, get, cancel (its HTTP API, v1)."""

from __future__ import annotations

from typing import Any

from tasks_app.providers.base import CancelOutcome, Job, ProviderError
from tasks_app.providers.remote.client import ProviderClient, is_refusal
from tasks_app.providers.remote.job import PollResult, RemoteProvider, WorkFailed, places, safe_id

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

    def submit(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        """Create a prediction."""
        owner_and_name, _, version = model.partition(":")
        body: dict[str, Any] = {"input": self.inputs(job)}
        path = f"v1/models/{owner_and_name}/predictions"
        if version:
            path, body = "v1/predictions", {"version": version, **body}
        return {"id": safe_id(line.call("POST", path, body).json().get("id"))}

    def look(self, line: ProviderClient, state: dict[str, Any]) -> PollResult:
        """Get the prediction."""
        return read(line.call("GET", f"v1/predictions/{safe_id(state['id'])}").json())

    def stop(self, line: ProviderClient, state: dict[str, Any]) -> CancelOutcome:
        """Cancel the prediction."""
        line.call("POST", f"v1/predictions/{safe_id(state['id'])}/cancel")
        return CancelOutcome.REQUESTED


def read(prediction: dict[str, Any]) -> PollResult:
    """Return the state of a prediction (of Replicate or Cog).

    Raises:
        WorkFailed: it ended without a result.
        ProviderError: its status is unknown.
    """
    status = prediction.get("status")
    if status == "succeeded":
        return PollResult(is_done=True, outputs=places(prediction.get("output")))
    if status in RUNNING:
        return PollResult(is_done=False, fraction=0.0 if status != "processing" else 0.3)
    if status in ENDED:
        if is_refusal(str(prediction.get("error")).encode()):
            raise WorkFailed("content_refused", "The provider refused the content.")
        raise WorkFailed("render_failed", "The provider's model failed.")
    raise ProviderError("provider_unavailable", "The provider's answer has no known status.")
