"""How are models on fal called? By its queue: submit, status, response, cancel."""

from __future__ import annotations

from typing import Any

from tasks_app.providers.base import CancelOutcome, Job, ProviderError
from tasks_app.providers.remote.client import ProviderClient, is_refusal
from tasks_app.providers.remote.job import PollResult, RemoteProvider, WorkFailed, places, safe_id


class FalProvider(RemoteProvider):
    """``model``: ``owner/app`` with any further path, for example ``fal-ai/flux/dev``."""

    name = "fal"
    url_setting = "FAL_BASE_URL"
    key_setting = "FAL_API_KEY"

    def headers(self, key: str) -> dict[str, str]:
        """Return fal's form of the Authorization header."""
        return {"Authorization": f"Key {key}"}

    def submit(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        """Queue a request; its URLs are kept as answered, since their form is fal's own."""
        answer = line.call("POST", model, self.inputs(job)).json()
        urls = {name: str(answer.get(name, "")) for name in URLS}
        if not all(urls.values()):
            raise ProviderError("provider_unavailable", "The provider's answer lacks its URLs.")
        return {"id": safe_id(answer.get("request_id")), **urls}

    def look(self, line: ProviderClient, state: dict[str, Any]) -> PollResult:
        """Ask for the status, and for the response once it is there."""
        status = line.call("GET", state["status_url"]).json()
        if status.get("status") in ("IN_QUEUE", "IN_PROGRESS"):
            return PollResult(is_done=False, fraction=0.3 * (status["status"] == "IN_PROGRESS"))
        if status.get("status") != "COMPLETED":
            text = "The provider's answer has no known status."
            raise ProviderError("provider_unavailable", text)
        if status.get("error"):
            is_refused = is_refusal(str(status["error"]).encode())
            code = "content_refused" if is_refused else "render_failed"
            raise WorkFailed(code, "The provider's model failed.")
        return PollResult(is_done=True, outputs=self._response(line, state))

    @staticmethod
    def _response(line: ProviderClient, state: dict[str, Any]) -> tuple[str, ...]:
        try:
            return places(line.call("GET", state["response_url"]).json())
        except ProviderError as error:
            # The model ended the request with an error: this status is the response's own.
            if error.code in ("provider_rejected", "content_refused"):
                raise WorkFailed(error.code, error.message) from None
            raise

    def stop(self, line: ProviderClient, state: dict[str, Any]) -> CancelOutcome:
        """Ask fal to cancel; a request that is running already may run on."""
        line.call("PUT", state["cancel_url"])
        return CancelOutcome.REQUESTED


URLS = ("status_url", "response_url", "cancel_url")
