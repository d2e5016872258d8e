"""What do all remote providers have in common? Submit, save the id, poll, download, probe.

A subclass knows how its protocol submits, polls and cancels. This module makes sure that the remote
id is stored before the first poll (so a crash resumes the paid job), that a failed poll does not
end the job, and that every result is probed.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import random
import re
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import structlog

from tasks_app.media import probe
from tasks_app.providers.base import (
    Cancelled,
    CancelOutcome,
    Context,
    FieldError,
    Job,
    ProviderError,
    Result,
)
from tasks_app.providers.remote.client import ProviderClient
from tasks_app.providers.remote.inputs import wishes
from tasks_app.task_types import TASK_TYPES
from webhooks_app.conf import Network

logger = structlog.get_logger(__name__)

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 1.0, 10.0
#: Failed polls in a row that end the attempt.
POLL_FAILURES = 5
MAX_OUTPUT_BYTES = 2 << 30
MAX_OUTPUTS = 4
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll returned: still running (progress 0..1), or the URLs of the results."""

    is_done: bool
    fraction: float = 0.0
    step: str = "generating"
    outputs: tuple[str, ...] = ()


class RemoteProvider(ABC):
    """A provider behind HTTP.

    Args:
        model: the default model, where a task does not name one of ``models``.
        models: the models that a task may name.
        input: inputs sent with every request; they override what a task asks for.
        fields: the model's name of an input -> our name of it (see `wishes`).
        poll_seconds: the wait before the second poll; later waits grow.
        max_bytes: the largest result that is downloaded.
    """

    name: ClassVar[str]
    is_local: ClassVar[bool] = False
    task_types: ClassVar[frozenset[str]] = frozenset(TASK_TYPES)
    #: Settings (and environment variables) that hold the base URL and the key.
    url_setting: ClassVar[str]
    key_setting: ClassVar[str] = ""
    is_key_needed: ClassVar[bool] = True
    is_model_needed: ClassVar[bool] = True

    def __init__(
        self,
        model: str = "",
        models: list[str] | None = None,
        input: dict[str, Any] | None = None,
        fields: dict[str, str] | None = None,
        poll_seconds: float = FIRST_POLL_SECONDS,
        max_bytes: int = MAX_OUTPUT_BYTES,
    ) -> None:
        self.model = model
        self._models = {model, *(models or ())}
        self._input = input or {}
        self._fields = {"prompt": "prompt"} if fields is None else fields
        self._poll_seconds = poll_seconds
        self._max_bytes = max_bytes

    # -- what a protocol says -----------------------------------------------------------------

    @abstractmethod
    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the credentials."""

    @abstractmethod
    def submit(self, line: ProviderClient, job: Job, model: str) -> dict[str, Any]:
        """Start the work and return the state to save (JSON)."""

    @abstractmethod
    def look(self, line: ProviderClient, state: dict[str, Any]) -> PollResult:
        """Ask for the state of the work.

        Raises:
            WorkFailed: the provider ended it; any other error is a failure of this poll only.
        """

    @abstractmethod
    def stop(self, line: ProviderClient, state: dict[str, Any]) -> CancelOutcome:
        """Ask the provider to end the work."""

    # -- the provider interface ---------------------------------------------------------------

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Report a model that the operator did not allow."""
        model = task_data.get("model")
        if model is None or model in self._models:
            return []
        text = "This model is not among the configured ones."
        return [FieldError("/task_data/model", "not_allowed", text)]

    def generate(self, job: Job, context: Context) -> Result:
        """Submit or resume, wait, download and probe.

        Raises:
            ProviderError, Cancelled: as `Provider.generate`.
        """
        line = self._line(context)
        state = job.remote_state or {}
        if state.get("provider") != self.name:
            state = self._submitted(line, job, context)
        try:
            outputs = self._wait(line, state, context)
            return self._result(line, job, context, state, outputs)
        except (Cancelled, ProviderError) as error:
            if isinstance(error, WorkFailed) or getattr(error, "code", "") == "output_invalid":
                context.save_remote({})  # the next attempt submits again
            else:
                self._give_up(state, context, error)
            raise

    def cancel(self, remote_state: dict[str, Any]) -> CancelOutcome:
        """Ask the provider to end the work of ``remote_state``; never raises a ProviderError."""
        try:
            return self.stop(self._line(None), remote_state)
        except (ProviderError, KeyError):
            return CancelOutcome.UNSUPPORTED

    def configuration_problems(self) -> list[str]:
        """Return what is missing in the configuration, for `manage.py check`."""
        found = []
        if not _setting(self.url_setting):
            found.append(f"Set {self.url_setting}.")
        if self.is_key_needed and not _setting(self.key_setting):
            found.append(f"Set {self.key_setting}.")
        if self.is_model_needed and not self.model:
            found.append('Name a model: {"options": {"model": "..."}}.')
        return found

    # -- the way of a job ---------------------------------------------------------------------

    def _line(self, context: Context | None) -> ProviderClient:
        key = _setting(self.key_setting) if self.key_setting else ""
        if self.is_key_needed and not key:
            raise ProviderError("provider_auth", f"{self.key_setting} is not set.")
        headers = self.headers(key) if key else {}
        return ProviderClient(_setting(self.url_setting), headers, _networks(), context)

    def _submitted(self, line: ProviderClient, job: Job, context: Context) -> dict[str, Any]:
        context.progress(0.01, "submitting")
        model = job.task_data.get("model") or self.model
        state = {"provider": self.name, "model": model, **self.submit(line, job, model)}
        if not state.get("id"):
            return state  # the answer held the result itself: nothing to resume
        context.save_remote(state)
        logger.info("Remote work started", provider=self.name, remote_id=state.get("id", ""))
        return state

    def inputs(self, job: Job) -> dict[str, Any]:
        """Return the model's inputs: the task's values, its options, then the operator's."""
        asked = wishes(job.task_type, job.task_data)
        named = {theirs: asked[ours] for theirs, ours in self._fields.items() if ours in asked}
        return {**named, **(job.task_data.get("options") or {}), **self._input}

    def _wait(
        self, line: ProviderClient, state: dict[str, Any], context: Context
    ) -> tuple[str, ...]:
        wait, failures = self._poll_seconds, 0
        while True:
            try:
                look = self.look(line, state)
                failures = 0
            except WorkFailed:
                raise
            except ProviderError as error:
                failures += 1
                if not error.retryable or error.code == "timed_out" or failures >= POLL_FAILURES:
                    raise
                pause(context, error.retry_after or wait)
                continue
            if look.is_done:
                return look.outputs
            context.progress(0.05 + 0.85 * look.fraction, look.step)
            pause(context, wait * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
            wait = min(LONGEST_POLL_SECONDS, wait * 1.5)

    def _give_up(self, state: dict[str, Any], context: Context, error: Exception) -> None:
        """Stop remote work that cannot be resumed; keep the state of work that can."""
        is_timed_out = isinstance(error, ProviderError) and error.code == "timed_out"
        if state.get("id") and (is_timed_out or context.is_over()):
            outcome = self.cancel(state)
            logger.info("Remote work cancelled", provider=self.name, outcome=outcome.value)

    def _result(
        self,
        line: ProviderClient,
        job: Job,
        context: Context,
        state: dict[str, Any],
        outputs: tuple[str, ...],
    ) -> Result:
        context.progress(0.92, "fetching")
        if not outputs:
            raise ProviderError("output_invalid", "The provider made nothing.", retryable=False)
        paths = [self._fetched(line, job, *row) for row in enumerate(outputs[:MAX_OUTPUTS])]
        context.progress(0.97, "checking")
        found = probe.probe_all([(path, None) for path in paths], context)
        kind = f"{TASK_TYPES[job.task_type].media}/"
        if not all(file.media_type.startswith(kind) for file in found):
            raise ProviderError("output_invalid", "The result is another kind of media.")
        roles = ["primary", *(f"primary_{n}" for n in range(2, len(paths) + 1))]
        files = tuple(
            file.as_output(role, path) for role, path, file in zip(roles, paths, found, strict=True)
        )
        metadata = {"remote_id": state.get("id", "")}
        seed = job.task_data.get("seed")
        return Result(files, self.name, str(state["model"]), seed=seed, metadata=metadata)

    def _fetched(self, line: ProviderClient, job: Job, index: int, place: str) -> Path:
        path = job.work_dir / f"result_{index}"
        if place.startswith("data:"):
            path.write_bytes(decoded(place))
        elif place.startswith("file:"):  # the protocol wrote it into the work directory
            return job.work_dir / Path(place.removeprefix("file:")).name
        else:
            line.download(place, path, self._max_bytes)
        return path


class WorkFailed(ProviderError):
    """The provider ended the work; polling again is of no use."""


def safe_id(value: Any) -> str:
    """Return a remote id after checking that it may stand in a URL path.

    Raises:
        ProviderError: ``provider_unavailable``, since the answer has no usable id.
    """
    if isinstance(value, str) and SAFE_ID.fullmatch(value):
        return value
    raise ProviderError("provider_unavailable", "The provider's answer has no usable id.")


def places(value: Any) -> tuple[str, ...]:
    """Return the URLs in an output: a string, a list, or objects with a ``url``, nested."""
    if isinstance(value, str):
        return (value,) if value.startswith(("https://", "http://", "data:")) else ()
    if isinstance(value, list):
        return tuple(place for item in value for place in places(item))
    if isinstance(value, dict):
        inner = [value["url"]] if "url" in value else list(value.values())
        return tuple(place for item in inner for place in places(item))
    return ()


def pause(context: Context, seconds: float) -> None:
    """Wait, unless the work is no longer wanted or its time is over.

    Raises:
        Cancelled: the work is no longer wanted.
        ProviderError: ``timed_out``.
    """
    never = threading.Event()
    while True:
        if context.cancelled():
            raise Cancelled
        if context.seconds_left() <= 0:
            raise ProviderError("timed_out", "The task's time is over.")
        if seconds <= 0:
            return
        never.wait(min(0.25, seconds))
        seconds -= 0.25


def decoded(place: str) -> bytes:
    """Return the bytes of a base64 data URL.

    Raises:
        ProviderError: ``output_invalid``, since it is not one.
    """
    head, _, text = place.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise ProviderError("output_invalid", "The result's data URL is not base64.") from None


def _setting(name: str) -> str:
    from django.conf import settings

    return str(getattr(settings, name, ""))


def _networks() -> tuple[Network, ...]:
    from django.conf import settings

    return tuple(ipaddress.ip_network(text) for text in settings.PROVIDER_ALLOW_NETWORKS)
