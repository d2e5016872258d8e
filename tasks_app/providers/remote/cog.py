"""How is a self-hosted Cog server called? One model per server; we choose the id of a job.

Cog has no GET for a prediction and forgets one that has ended, so the PUT waits for the result.
Sent again while the prediction runs (after a crash of ours), the PUT returns its state.
"""

from __future__ import annotations

from typing import Any

from tasks_app.providers.base import CancelOutcome, Job
from tasks_app.providers.remote.client import WORK_SECONDS, ProviderClient
from tasks_app.providers.remote.job import PollResult, RemoteProvider, safe_id
from tasks_app.providers.remote.replicate import read


class CogProvider(RemoteProvider):
    """Any model packed with Cog, at ``COG_BASE_URL``; ``model`` only names it in the result."""

    name = "cog"
    url_setting = "COG_BASE_URL"
    is_key_needed = False
    is_model_needed = False

    def headers(self, key: str) -> dict[str, str]:
        """Return no headers: Cog has no credentials."""
        return {}

    def submit(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        """Only choose and save an id: the PUT that follows may then be sent any number of times."""
        return {"id": f"{job.task_id}-{job.attempt}", "input": self.inputs(job)}

    def look(self, line: ProviderClient, state: dict[str, Any]) -> PollResult:
        """Start the prediction and wait for it, or read its state."""
        path = f"predictions/{safe_id(state['id'])}"
        answer = line.call("PUT", path, {"input": state["input"]}, seconds=WORK_SECONDS)
        return read(answer.json())

    def stop(self, line: ProviderClient, state: dict[str, Any]) -> CancelOutcome:
        """Cancel the prediction."""
        line.call("POST", f"predictions/{safe_id(state['id'])}/cancel")
        return CancelOutcome.REQUESTED
