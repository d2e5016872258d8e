"""How is a self-hosted Cog server called? One model per server; we choose the id of a job.

Cog has no GET for a prediction and forgets one that has ended: the body of its callback is the
result. A PUT with the id of a running prediction returns its state; with any other id it starts
work, also if that id has just ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from tasks_app.providers.base import Callback, CancelOutcome, ProviderError
from tasks_app.providers.remote.base import (
    Busy,
    JobStatus,
    RemoteProvider,
    Submitted,
    UnknownJob,
    Work,
    WorkFailed,
)
from tasks_app.providers.remote.client import ProviderClient
from tasks_app.providers.remote.replicate import read

#: How long an idle server's callback may be on its way.
CALLBACK_SECONDS = 20.0
#: In the place of a prediction's status: there is a result, but it was too long to be taken.
OVERSIZED = "oversized"


class CogProvider(RemoteProvider):
    """Any model packed with Cog, at ``COG_BASE_URL``; ``model`` only names it in the result."""

    name = "cog"
    url_setting = "COG_BASE_URL"
    is_key_needed = False
    is_model_needed = False
    names_jobs = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._idle_since: dict[str, float] = {}

    def headers(self, key: str) -> dict[str, str]:
        """Return no headers: Cog has no credentials."""
        return {}

    async def submit(self, work: Work, line: ProviderClient) -> Submitted:
        """Start the prediction; a dropped connection does not end it."""
        body = {"input": self.inputs(work), "webhook": work.callback_url}
        try:
            answer = await line.call(
                "PUT",
                f"predictions/{work.job_id}",
                {**body, "webhook_events_filter": ["completed"]},
                headers={"Prefer": "respond-async"},
            )
        except ProviderError as error:
            if error.status == 409:  # it makes as many at a time as it was started for
                raise Busy(retry_after=error.retry_after) from None
            raise
        state = read(answer.json())
        return Submitted({"id": work.job_id}, state.outputs if state.is_done else None)

    async def look_one(self, work: Work, line: ProviderClient) -> JobStatus:
        """Read the result that came in a callback, or ask whether the server works at all.

        An idle server without a callback has lost the work: it knows no ended prediction.
        """
        if "called" in work.remote:
            if work.remote["called"].get("status") == OVERSIZED:
                text = "The result is longer than PROVIDER_CALLBACK_MAX_BYTES allows."
                raise WorkFailed("output_invalid", text, retryable=False)
            return read(work.remote["called"])
        health = (await line.call("GET", "health-check")).json().get("status")
        if health == "BUSY":
            self._idle_since.pop(work.job_id, None)
            return JobStatus(is_done=False, fraction=0.3)
        if health == "READY":  # its callback may be on its way
            idle_since = self._idle_since.setdefault(work.job_id, time.monotonic())
            if time.monotonic() - idle_since < CALLBACK_SECONDS:
                return JobStatus(is_done=False, fraction=0.3)
            del self._idle_since[work.job_id]
            raise UnknownJob("The Cog server is idle and has sent no result.")
        raise ProviderError("provider_unavailable", "The Cog server is not ready.")

    async def stop(self, work: Work, line: ProviderClient) -> CancelOutcome:
        """Cancel the prediction."""
        try:
            await line.call("POST", f"predictions/{work.job_id}/cancel")
        except ProviderError as error:
            if error.status != 404:
                raise
            return CancelOutcome.UNKNOWN
        return CancelOutcome.REQUESTED

    def read_callback(self, headers: Mapping[str, str], body: bytes, token: str) -> Callback:
        """Return the prediction; who knows the address may bring it, Cog signs nothing."""
        try:
            prediction = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Callback()
        is_ended = isinstance(prediction, dict) and prediction.get("status") in (
            *("succeeded", "failed", "canceled"),
        )
        if not is_ended:
            return Callback()
        return Callback({key: prediction.get(key) for key in ("status", "output", "error")})

    def oversized_callback(self) -> Callback:
        """End the work: another run would bring as much."""
        return Callback({"status": OVERSIZED})
