"""How are servers called that speak OpenAI's protocol? Images, speech, and videos as jobs.

Images and speech come in the answer itself, so they cannot be resumed: after a crash the request is
sent again. A video is a job with an id.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from tasks_app.providers.base import CancelOutcome, ProviderError
from tasks_app.providers.remote.base import (
    JobStatus,
    RemoteProvider,
    Submitted,
    Work,
    WorkFailed,
    decoded,
    places,
    safe_id,
)
from tasks_app.providers.remote.client import WORK_SECONDS, ProviderClient, is_refusal
from tasks_app.providers.remote.openai_inputs import OpenAIInputs
from tasks_app.providers.remote.replicate import known
from tasks_app.task_types import TASK_TYPES

RUNNING = frozenset({"queued", "in_progress"})
#: The parts of a request that hold files: a film's first picture, a picture to be edited.
PARTS = {"input_reference": "first_frame", "image": "image", "mask": "mask"}


class OpenAICompatibleProvider(OpenAIInputs, RemoteProvider):
    """OpenAI itself, vLLM-Omni, LiteLLM, LocalAI, Speaches and others."""

    name = "openai"
    url_setting = "OPENAI_BASE_URL"
    key_setting = "OPENAI_API_KEY"
    is_key_needed = False  # self-hosted servers often have none

    def headers(self, key: str) -> dict[str, str]:
        """Return the bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def handed(self, name: str, work: Work) -> Any:
        """Return the file's name: the bytes are a part of the request."""
        return work.inputs[name][0].filename

    async def submit(self, work: Work, line: ProviderClient) -> Submitted:
        """Make an image or speech at once, or start a video."""
        media = TASK_TYPES[work.task_type].media
        if media == "image":
            return await self._pictures(work, line)
        if media == "audio":
            return await self._speech(work, line)
        body = self.inputs(work)
        answer = await line.call("POST", "v1/videos", _as_form(body, work) if work.inputs else body)
        return Submitted({"id": safe_id(answer.json().get("id"))})

    async def _pictures(self, work: Work, line: ProviderClient) -> Submitted:
        body: Any = self.inputs(work)
        path = "v1/images/generations"
        if work.inputs:
            path, body = "v1/images/edits", _as_form(body, work)
        answer = await line.call("POST", path, body, seconds=WORK_SECONDS)
        rows = answer.json().get("data")
        rows = rows if isinstance(rows, list) else []
        made = [place for index, row in enumerate(rows) if (place := _kept(row, work, index))]
        return Submitted({}, tuple(made))

    async def _speech(self, work: Work, line: ProviderClient) -> Submitted:
        answer = await line.call(
            "POST",
            "v1/audio/speech",
            self.inputs(work),
            headers={"Accept": "*/*"},
            seconds=WORK_SECONDS,
        )
        (work.directory / "speech").write_bytes(answer.body)
        return Submitted({}, ("file:speech",))

    async def look_one(self, work: Work, line: ProviderClient) -> JobStatus:
        """Get the state of the video job."""
        path = f"v1/videos/{safe_id(work.remote.get('id'))}"
        job = await known(line, "GET", path)
        status = job.get("status")
        if status == "completed":
            return JobStatus(is_done=True, outputs=(f"{path}/content",))
        if status in RUNNING:
            return JobStatus(is_done=False, fraction=_share(job.get("progress")))
        if status in ("failed", "cancelled"):
            words = str(job.get("error") or "")
            code = "content_refused" if is_refusal(words.encode()) else "render_failed"
            raise WorkFailed(code, "The provider's model failed.", words=words)
        raise ProviderError("provider_unavailable", "The provider's answer has no known status.")

    async def stop(self, work: Work, line: ProviderClient) -> CancelOutcome:
        """Delete the video job; whether that ends the work depends on the server."""
        if "id" not in work.remote:  # an image or speech: the open request was all there is
            return CancelOutcome.UNSUPPORTED
        await line.call("DELETE", f"v1/videos/{safe_id(work.remote['id'])}")
        return CancelOutcome.REQUESTED


def _as_form(body: dict[str, Any], work: Work) -> aiohttp.FormData:
    """Return a request with a file, which this protocol takes as multipart only."""
    form = aiohttp.FormData()
    for name, value in body.items():
        for file in work.inputs.get(PARTS.get(name, ""), ()):
            how = {"filename": file.filename, "content_type": file.media_type}
            form.add_field(name, file.read(), **how)
        if PARTS.get(name) not in work.inputs:
            form.add_field(name, value if isinstance(value, str) else orjson.dumps(value).decode())
    return form


def _kept(row: Any, work: Work, index: int) -> str:
    """Return the place of one image; one that came as base64 is written to a file at once."""
    if isinstance(row, dict) and isinstance(row.get("b64_json"), str):
        name = f"picture_{index}"
        (work.directory / name).write_bytes(decoded("data:;base64," + row["b64_json"]))
        return f"file:{name}"
    return next(iter(places(row)), "")


def _share(progress: Any) -> float:
    return min(1.0, max(0.0, progress / 100)) if isinstance(progress, int | float) else 0.0
