"""How does a ComfyUI server speak? Its HTTP protocol, as async functions over one line.

What a server says is not believed: its file names become a query string and never a path here, its
error texts lose their paths and reach operators only. The order of the two questions matters: a job
moves from the queue to the history in one step, so whoever asks for the history first misses jobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tasks_app.providers.base import CancelOutcome, ProviderError
from tasks_app.providers.comfyui.templates import Graph
from tasks_app.providers.remote.base import Busy, WorkFailed
from tasks_app.providers.remote.client import ProviderClient, Unclear, Unreachable

#: From here on a job is cancelled by its id, in one step.
CANCELS_BY_ID = (0, 26)
#: The member of ``extra_data`` that is ours.
TOLD = "movie_task_service"
#: Most of a server's words that is read; what is kept is cut off where its keys are masked.
MAX_WORDS = 2000
LOOK_SECONDS, UPLOAD_SECONDS = 20.0, 600.0
#: Times that a job is looked at again, since it moved while it was to be stopped.
STOP_TRIES = 3
EXTENSIONS = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif"),
    "video": (".mp4", ".webm", ".mov", ".mkv", ".gif", ".webp"),
    "audio": (".flac", ".mp3", ".wav", ".ogg", ".opus", ".m4a"),
}
#: A path of the server: of several parts, from a root or a drive.
PATHS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\":,]+){2,}[\\/]?")


class JobStage(StrEnum):
    """Where a job is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class State:
    """What the server says of one job.

    ``outputs``: of a job that is done, by node. ``ahead``: of a pending one, how many jobs come
    before it. ``words``: why it failed. ``told``: of a job that is done, what `submit` told the
    server.
    """

    stage: JobStage
    outputs: Mapping[str, Any] = field(default_factory=dict)
    ahead: int = 0
    words: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)


async def version(line: ProviderClient) -> tuple[int, ...]:
    """Return the version of ComfyUI that answers; (0,) where it does not say."""
    stats = (await line.call("GET", "system_stats")).json()
    system = stats.get("system")
    text = str(system.get("comfyui_version", "")) if isinstance(system, dict) else ""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3]) or (0,)


async def queue_length(line: ProviderClient) -> int:
    """Return how many jobs wait or run on the server, those of others too."""
    info = (await line.call("GET", "prompt")).json().get("exec_info")
    remaining = info.get("queue_remaining", 0) if isinstance(info, dict) else 0
    return remaining if isinstance(remaining, int) else 0


async def submit(
    line: ProviderClient, prompt_id: str, graph: Graph, told: Mapping[str, Any]
) -> None:
    """Queue a graph under an id of ours; the same id again would be queued twice.

    Args:
        told: comes back in the state of a job that has ended.

    Raises:
        Busy: a proxy in front has no room.
        ProviderError: ``provider_rejected``, also where only a part of the graph is valid.
    """
    body = {"prompt": graph, "prompt_id": prompt_id, "client_id": prompt_id}
    body["extra_data"] = {TOLD: told}
    try:
        found = await line.call("POST", "prompt", body, accepted=(400,))
    except ProviderError as error:
        if error.status in (429, 503):
            raise Busy(retry_after=error.retry_after) from None
        raise
    answer = found.json()
    if found.status == 400:
        raise _rejected(answer, line)
    if (named := answer.get("prompt_id")) != prompt_id:
        # Versions from before mid-2025 choose an id of their own, and a job could not be found.
        if isinstance(named, str) and re.fullmatch(r"[0-9a-f-]{1,64}", named):
            await stop(line, named)
        text = "This ComfyUI is too old: it does not let its clients name a job."
        raise ProviderError("provider_rejected", text)
    if errors := answer.get("node_errors"):
        # The valid part was queued all the same, and would work for nothing.
        await stop(line, prompt_id)
        raise ProviderError(
            "provider_rejected",
            "The server refused a part of the workflow.",
            words=line.masked(_node_words(errors)),
        )


async def looks(
    line: ProviderClient, prompt_ids: Sequence[str]
) -> dict[str, State | ProviderError]:
    """Return the state of each job: one question for the queue, then one for each that left it.

    Raises:
        ProviderError: the queue cannot be seen. What goes wrong with one history is that job's.
    """
    queue = (await line.call("GET", "queue", seconds=LOOK_SECONDS)).json()
    found: dict[str, State | ProviderError] = {}
    running, pending = _items(queue, "queue_running"), _items(queue, "queue_pending")
    for prompt_id in running:
        found[prompt_id] = State(JobStage.RUNNING)
    for place, prompt_id in enumerate(pending):
        found[prompt_id] = State(JobStage.PENDING, ahead=len(running) + place)
    away: ProviderError | None = None
    for prompt_id in prompt_ids:
        if prompt_id in found:
            continue
        try:
            if away is not None:
                raise away
            history = await line.call("GET", f"history/{prompt_id}", seconds=LOOK_SECONDS)
            found[prompt_id] = _ended(history.json().get(prompt_id))
        except ProviderError as error:
            found[prompt_id] = error
            if isinstance(error, Unreachable | Unclear):  # the others would wait for it as long
                away = error
    return {prompt_id: found[prompt_id] for prompt_id in prompt_ids}


async def look(line: ProviderClient, prompt_id: str) -> State:
    """Return the state of one job.

    Raises:
        ProviderError: it cannot be seen.
    """
    found = (await looks(line, [prompt_id]))[prompt_id]
    if isinstance(found, ProviderError):
        raise found
    return found


async def stop(line: ProviderClient, prompt_id: str) -> CancelOutcome:
    """Take a job out of the queue, or interrupt it; never anybody else's.

    An interruption takes effect between two nodes or steps, so it is only ever requested.
    """
    by_id = await version(line) >= CANCELS_BY_ID
    state = await look(line, prompt_id)
    for _ in range(STOP_TRIES):
        if state.stage not in (JobStage.PENDING, JobStage.RUNNING):
            return _STOPPED[state.stage]
        if by_id:
            await line.call("POST", f"api/jobs/{prompt_id}/cancel", {})
        elif state.stage == JobStage.PENDING:
            await line.call("POST", "queue", {"delete": [prompt_id]})
        else:
            await line.call("POST", "interrupt", {"prompt_id": prompt_id})
        before, state = state, await look(line, prompt_id)
        if (
            state.stage == JobStage.UNKNOWN
        ):  # it was queued a moment ago: the deletion leaves no trace
            return CancelOutcome.CONFIRMED
        if before.stage == state.stage == JobStage.RUNNING:
            return CancelOutcome.REQUESTED
    return CancelOutcome.REQUESTED


_STOPPED = {
    JobStage.DONE: CancelOutcome.ENDED,
    JobStage.FAILED: CancelOutcome.CONFIRMED,
    JobStage.INTERRUPTED: CancelOutcome.CONFIRMED,
    JobStage.UNKNOWN: CancelOutcome.UNKNOWN,
}


async def upload(line: ProviderClient, path: Path, name: str, subfolder: str) -> str:
    """Give the server a file to load; return the name under which its loader nodes know it."""
    fields = {"type": "input", "subfolder": subfolder}
    form = aiohttp.FormData(fields, quote_fields=False)  # servers take %20 for a part of the name
    with path.open("rb") as content:
        form.add_field("image", content, filename=name, content_type="application/octet-stream")
        answer = (await line.call("POST", "upload/image", form, seconds=UPLOAD_SECONDS)).json()
    stored, folder = answer.get("name"), answer.get("subfolder", "")
    if not isinstance(stored, str) or not isinstance(folder, str):
        raise ProviderError("provider_unavailable", "The server did not name the uploaded file.")
    return f"{folder}/{stored}" if folder else stored


def results(outputs: Mapping[str, Any], node: str, media: str) -> tuple[str, ...]:
    """Return where the files of the output node are, those of the wanted kind if there are any.

    Only files of the kind ``output``: previews are ``temp`` and are deleted by the server.

    Raises:
        WorkFailed: there is none.
    """
    shown = outputs.get(node)
    rows = [
        row
        for kind in (shown.values() if isinstance(shown, dict) else ())
        for row in (kind if isinstance(kind, list) else ())
        if isinstance(row, dict) and row.get("type") == "output" and row.get("filename")
    ]
    fitting = [row for row in rows if str(row["filename"]).lower().endswith(EXTENSIONS[media])]
    if not rows:
        raise WorkFailed("output_invalid", "The output node of the workflow made no file.")
    return tuple(_place(row) for row in fitting or rows)


def _place(row: Mapping[str, Any]) -> str:
    name = {"filename": str(row["filename"]), "subfolder": str(row.get("subfolder", ""))}
    return "view?" + urlencode({**name, "type": "output"})


# -- reading answers -------------------------------------------------------------------------------


def _items(queue: Mapping[str, Any], name: str) -> list[str]:
    """Return the id of each entry: [number, id, graph, extra, outputs]."""
    rows = queue.get(name)
    rows = rows if isinstance(rows, list) else []
    return [str(row[1]) for row in rows if isinstance(row, list) and len(row) > 1]


def _ended(entry: Any) -> State:
    """Return the state in a history's entry; the server has none for what it does not know."""
    if not isinstance(entry, dict):
        return State(JobStage.UNKNOWN)
    status, outputs = entry.get("status"), entry.get("outputs")
    outputs = outputs if isinstance(outputs, dict) else {}
    if not isinstance(status, dict):  # null is allowed
        return State(JobStage.DONE if outputs else JobStage.FAILED, outputs)
    if status.get("completed") is True:
        return State(JobStage.DONE, outputs, told=_told(entry))
    # An error and an interruption have the same status: the last message tells.
    messages = status.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    kind, data = last if isinstance(last, list) and len(last) == 2 else ("", {})
    if kind == "execution_interrupted":
        return State(JobStage.INTERRUPTED)
    return State(JobStage.FAILED, words=_failure_words(data))


def _told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `submit` told: entry ``prompt`` is [number, id, graph, extra_data, outputs]."""
    prompt = entry.get("prompt")
    extra = prompt[3] if isinstance(prompt, list) and len(prompt) > 3 else None
    told = extra.get(TOLD) if isinstance(extra, dict) else None
    return told if isinstance(told, dict) else {}


def _failure_words(data: Any) -> str:
    """Return why a node failed; its inputs and its traceback are left where they are."""
    if not isinstance(data, dict):
        return ""
    node = f"{data.get('node_type', '')} (node {data.get('node_id', '')})"
    return _shown(f"{node}: {data.get('exception_type')}: {data.get('exception_message')}")


def _rejected(document: Mapping[str, Any], line: ProviderClient) -> ProviderError:
    error = document.get("error")
    if not isinstance(error, dict):
        return ProviderError("provider_rejected", "The server refused the workflow.")
    words = f"{error.get('type')}: {error.get('message')} {error.get('details')}"
    if nodes := _node_words(document.get("node_errors")):
        words = f"{error.get('type')}: {nodes}"
    return ProviderError(
        "provider_rejected", "The server refused the workflow.", words=line.masked(_shown(words))
    )


def _node_words(errors: Any) -> str:
    found = []
    for node, row in errors.items() if isinstance(errors, dict) else ():
        for fault in row.get("errors", ()) if isinstance(row, dict) else ():
            if isinstance(fault, dict):
                text = f"{fault.get('type')}: {fault.get('message')}: {fault.get('details')}"
                found.append(f"{row.get('class_type')} (node {node}) {text}")
    return _shown("; ".join(found))


def _shown(text: str) -> str:
    """Return text of a server as it may be kept: one line, without the server's paths."""
    return " ".join(PATHS.sub("...", text).split())[:MAX_WORDS]
