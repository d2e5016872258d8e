"""How is a Cog server of one's own asked? One model a server, and the id of a job is ours.

Cog has no GET for a prediction and forgets one that ended, so the PUT waits for the result
itself. Sent again while the prediction runs (after a crash of ours), it answers with its state.
"""

from __future__ import annotations

from typing import Any

from tasks_app.providers.base import CancelOutcome, Job
from tasks_app.providers.remote.client import WORK_SECONDS, ProviderClient
from tasks_app.providers.remote.job import PollResult, RemoteProvider, safe_id
from tasks_app.providers.remote.replicate import read


class CogProvider(RemoteProvider):
    """Any model packed with Cog, at ``COG_BASE_URL``; ``model`` is only a name in the result."""

    name = "cog"
    url_setting = "COG_BASE_URL"
    is_key_needed = False
    is_model_needed = False

    def headers(self, key: str) -> dict[str, str]:
        """Return nothing: Cog knows no credentials."""
        return {}

    def submit(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        """Remember our id first: the PUT that follows is the same however often it is sent."""
        return {"id": f"{job.task_id}-{job.attempt}", "input": self.inputs(job)}

    def look(self, line: ProviderClient, state: dict[str, Any]) -> PollResult:
        """Start the prediction and wait for it, or see how far it is."""
        path = f"predictions/{safe_id(state['id'])}"
        answer = line.call("PUT", path, {"input": state["input"]}, seconds=WORK_SECONDS)
        return read(answer.json())

    def stop(self, line: ProviderClient, state: dict[str, Any]) -> CancelOutcome:
        """Cancel the prediction."""
        line.call("POST", f"predictions/{safe_id(state['id'])}/cancel")
        return CancelOutcome.REQUESTED
