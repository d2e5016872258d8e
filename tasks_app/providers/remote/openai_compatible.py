"""How are servers called that speak OpenAI's protocol? Images, speech, and videos as jobs.

Images and speech come in the answer itself, so they cannot be resumed: after a crash the request is
sent again. A video is a job with an id.
"""

from __future__ import annotations

from typing import Any

from tasks_app.providers.base import CancelOutcome, Job, ProviderError
from tasks_app.providers.remote.client import WORK_SECONDS, ProviderClient, is_refusal
from tasks_app.providers.remote.inputs import wishes
from tasks_app.providers.remote.job import (
    PollResult,
    RemoteProvider,
    WorkFailed,
    decoded,
    places,
    safe_id,
)
from tasks_app.task_types import TASK_TYPES

RUNNING = frozenset({"queued", "in_progress"})
SPEECH_FORMATS = {"wav": "wav", "mp3": "mp3", "ogg": "opus", "flac": "flac", "m4a": "aac"}


class OpenAICompatibleProvider(RemoteProvider):
    """OpenAI itself, vLLM-Omni, LiteLLM, LocalAI, Speaches and others."""

    name = "openai"
    url_setting = "OPENAI_BASE_URL"
    key_setting = "OPENAI_API_KEY"
    is_key_needed = False  # self-hosted servers often have none

    def headers(self, key: str) -> dict[str, str]:
        """Return the bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def submit(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        """Make an image or speech at once, or start a video."""
        media = TASK_TYPES[job.task_type].media
        if media == "image":
            return self._pictures(line, job, model)
        if media == "audio":
            return self._speech(line, job, model)
        asked = wishes(job.task_type, job.task_data)
        body = {
            "size": asked.get("resolution", "1280x720"),
            "seconds": str(round(asked.get("duration_s", 8))),
            **self.inputs(job),
            "model": model,
        }
        return {"id": safe_id(line.call("POST", "v1/videos", body).json().get("id"))}

    def _pictures(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        asked = wishes(job.task_type, job.task_data)
        size, count = asked.get("resolution", "1024x1024"), asked.get("count", 1)
        body = {"n": count, "size": size, **self.inputs(job), "model": model}
        answer = line.call("POST", "v1/images/generations", body, seconds=WORK_SECONDS)
        rows = answer.json().get("data")
        rows = rows if isinstance(rows, list) else []
        made = [place for index, row in enumerate(rows) if (place := _kept(row, job, index))]
        return {"id": "", "outputs": made}

    def _speech(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        asked = wishes(job.task_type, job.task_data)
        kind = SPEECH_FORMATS[asked.get("format", "wav")]
        body = {
            "input": asked["prompt"],
            "voice": asked.get("voice", "alloy"),
            "response_format": kind,
            **(job.task_data.get("options") or {}),
            **self._input,
            "model": model,
        }
        answer = line.call(
            "POST", "v1/audio/speech", body, headers={"Accept": "*/*"}, seconds=WORK_SECONDS
        )
        (job.work_dir / "speech").write_bytes(answer.body)
        return {"id": "", "outputs": ["file:speech"]}

    def look(self, line: ProviderClient, state: dict[str, Any]) -> PollResult:
        """Get the state of the video job; images and speech are done already."""
        if "outputs" in state:
            return PollResult(is_done=True, outputs=tuple(state["outputs"]))
        path = f"v1/videos/{safe_id(state['id'])}"
        job = line.call("GET", path).json()
        status = job.get("status")
        if status == "completed":
            return PollResult(is_done=True, outputs=(f"{path}/content",))
        if status in RUNNING:
            return PollResult(is_done=False, fraction=_share(job.get("progress")))
        if status in ("failed", "cancelled"):
            code = "content_refused" if is_refusal(str(job.get("error")).encode()) else ""
            raise WorkFailed(code or "render_failed", "The provider's model failed.")
        raise ProviderError("provider_unavailable", "The provider's answer has no known status.")

    def stop(self, line: ProviderClient, state: dict[str, Any]) -> CancelOutcome:
        """Delete the video job; whether that ends the work depends on the server."""
        line.call("DELETE", f"v1/videos/{safe_id(state['id'])}")
        return CancelOutcome.REQUESTED


def _kept(row: Any, job: Job, index: int) -> str:
    """Return the place of one image; one that came as base64 is written to a file at once."""
    if isinstance(row, dict) and isinstance(row.get("b64_json"), str):
        name = f"picture_{index}"
        (job.work_dir / name).write_bytes(decoded("data:;base64," + row["b64_json"]))
        return f"file:{name}"
    return next(iter(places(row)), "")


def _share(progress: Any) -> float:
    return min(1.0, max(0.0, progress / 100)) if isinstance(progress, int | float) else 0.0
