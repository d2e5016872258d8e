"""What is a provider elsewhere? The interface behind which every service for media is called.

A provider knows how its protocol submits, looks and stops, and nothing of the database: the loop of
`tasks_app.remote_work` calls it and stores what it returns. All calls are asyncio, of one loop per
worker process; one instance serves all jobs of that process.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks_app.providers.base import Callback, CancelOutcome, ProviderError
from tasks_app.providers.networks import networks_for
from tasks_app.providers.proxies import proxy_for
from tasks_app.providers.remote.client import ProviderClient, Server, setting
from tasks_app.providers.remote.inputs import ModelInputs
from tasks_app.task_types import TASK_TYPES

if TYPE_CHECKING:
    from tasks_app.media.inputs import InputFile

FIRST_LOOK_SECONDS = 1.0
MAX_OUTPUT_BYTES = 2 << 30
#: More than any model makes at once; nothing of a result is left out.
#: The largest file that is sent within a request, in bytes.
MAX_INLINE_BYTES = 8 << 20
#: Inputs of which a task may name several.
LISTS = ("reference_images",)
MAX_OUTPUTS = 32
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class Work:
    """One job as a provider sees it.

    ``job_id``: a canonical UUID that is stored before the submit; the remote id, where a client may
    choose it. ``remote``: what `submit` returned, {} before. ``callback_url``: where the provider
    may tell us that it has news, empty for nowhere. ``directory`` exists during `submit` and
    `RemoteProvider.fetch`, for files that come in an answer.
    """

    job_id: str
    task_id: str
    attempt: int
    task_type: str
    task_data: dict[str, Any]
    model: str
    server: str
    remote: dict[str, Any]
    callback_url: str
    directory: Path
    #: The task's files by the names of its inputs; only during `submit`.
    inputs: Mapping[str, Sequence[InputFile]] = field(default_factory=dict)
    #: How long a link to one of them must live, in seconds.
    seconds_left: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """What to keep of a submit (JSON); with ``outputs``, the answer was the result itself."""

    remote: dict[str, Any]
    outputs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What one look returned: still running (progress 0..1), or where the results are.

    ``facts`` are added to the receipt as ``provider_metadata``. ``preview``: a picture of the work
    so far, if the server sends one; nobody has looked into it.
    """

    is_done: bool
    fraction: float = 0.0
    step: str = "generating"
    outputs: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    preview: bytes = b""


class Busy(ProviderError):
    """The server has no room for this submit: the task waits and uses up nothing."""

    def __init__(self, message: str = "The provider is busy.", retry_after: float | None = None):
        super().__init__("provider_rate_limited", message, retry_after=retry_after)


class UnknownJob(ProviderError):
    """The server answers, but does not know the id: the work is lost."""

    def __init__(self, message: str = "The provider does not know this job."):
        super().__init__("provider_unavailable", message)


class WorkFailed(ProviderError):
    """The provider ended the work without a result; looking again is of no use."""


class RemoteProvider(ModelInputs, ABC):
    """A provider behind HTTP.

    Args:
        poll_seconds: the wait before the first look; later waits grow.
        max_bytes: the largest result that is downloaded.
        concurrency: most jobs at once on each server; None for what the provider itself allows.
        inputs: the arguments of `ModelInputs`.
    """

    name: ClassVar[str]
    is_local: ClassVar[bool] = False
    is_given_files: ClassVar[bool] = True
    task_types: ClassVar[frozenset[str]] = frozenset(TASK_TYPES)
    #: Settings (and environment variables) that hold the base URL and the key.
    url_setting: ClassVar[str]
    key_setting: ClassVar[str] = ""
    is_key_needed: ClassVar[bool] = True
    is_model_needed: ClassVar[bool] = True
    #: Whether ``Work.job_id`` is the remote id. An unclear submit is then looked at, not repeated.
    names_jobs: ClassVar[bool] = False
    #: Whether its servers are alike: a task passes by those that are away, and waits for one.
    is_pool: ClassVar[bool] = False
    #: How many jobs of one server a process follows at once, each over a stream; 0: it has none.
    streams: ClassVar[int] = 0
    #: A job whose server has not answered for so long starts anew elsewhere; None: never.
    lost_seconds: float | None = None

    def __init__(
        self,
        *,
        poll_seconds: float = FIRST_LOOK_SECONDS,
        max_bytes: int = MAX_OUTPUT_BYTES,
        concurrency: int | None = None,
        **inputs: Any,
    ) -> None:
        super().__init__(**inputs)
        self.poll_seconds = poll_seconds
        self._max_bytes = max_bytes
        self._concurrency = concurrency

    # -- what a protocol says ----------------------------------------------------------------------

    @abstractmethod
    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the credentials."""

    @abstractmethod
    async def submit(self, work: Work, line: ProviderClient) -> Submitted:
        """Start the work.

        Raises:
            Busy: there is no room now.
            ProviderError: it failed; see `client` for what the classes say of a paid submit.
        """

    @abstractmethod
    async def look_one(self, work: Work, line: ProviderClient) -> JobStatus:
        """Ask for the state of one job.

        Raises:
            WorkFailed, UnknownJob: the work has ended, or is lost.
            ProviderError: the look failed; the work may go on.
        """

    @abstractmethod
    async def stop(self, work: Work, line: ProviderClient) -> CancelOutcome:
        """Ask the provider to end the work."""

    # -- what a protocol may say otherwise ---------------------------------------------------------

    def servers(self, model: str) -> list[Server]:
        """Return the servers that can make a model; their labels stand in receipts."""
        key = setting(self.key_setting) if self.key_setting else ""
        base = setting(self.url_setting)
        headers = self.headers(key) if key else {}
        networks, proxy = networks_for(self.name), proxy_for(self.name)
        return [Server(self.name, base, headers, networks, self._concurrency, proxy)]

    async def look(
        self, works: Sequence[Work], line: ProviderClient
    ) -> dict[str, JobStatus | ProviderError]:
        """Ask for the states of jobs of one server; by job id."""

        async def one(work: Work) -> JobStatus | ProviderError:
            try:
                return await self.look_one(work, line)
            except ProviderError as error:
                return error

        if len(works) == 1:  # without a task of its own
            return {works[0].job_id: await one(works[0])}
        found = await asyncio.gather(*(one(work) for work in works))
        return {work.job_id: state for work, state in zip(works, found, strict=True)}

    async def fetch(self, work: Work, outputs: Sequence[str], line: ProviderClient) -> list[Path]:
        """Bring the results into ``work.directory``; the first is the primary one."""
        if len(outputs) > MAX_OUTPUTS:
            text = f"The provider made {len(outputs)} files; at most {MAX_OUTPUTS} are taken."
            raise ProviderError("output_invalid", text, retryable=False)
        return [
            await self._fetch_one(work, index, place, line) for index, place in enumerate(outputs)
        ]

    async def _fetch_one(self, work: Work, index: int, place: str, line: ProviderClient) -> Path:
        path = work.directory / f"result_{index}"
        if place.startswith("file:"):  # it came in the answer to the submit
            kept = work.directory / Path(place.removeprefix("file:")).name
            if not kept.exists():
                raise UnknownJob("The result was lost with the machine that received it.")
            path.unlink(missing_ok=True)
            path.hardlink_to(kept)  # storing moves the file: this one, should we die meanwhile
        elif place.startswith("data:"):
            path.write_bytes(decoded(place))
        else:
            await line.download(place, path, self._max_bytes)
        return path

    def follow(self, work: Work, line: ProviderClient) -> AsyncGenerator[JobStatus]:
        """Yield what the server tells of one job by itself; for a provider with ``streams``.

        It is a hint. One that ``is_done`` means that a look is worth while; it has no results.

        Raises:
            ProviderError: there was no stream, or it broke.
        """
        raise NotImplementedError

    def read_callback(self, headers: Mapping[str, str], body: bytes, token: str) -> Callback:
        """Judge a call of the provider to ``Work.callback_url``; header names in lower case.

        Raises:
            BadSignature: it is not signed by the provider.
        """
        return Callback()

    def oversized_callback(self) -> Callback:
        """Say what a call means that is longer than PROVIDER_CALLBACK_MAX_BYTES, so is not read."""
        return Callback()

    # -- configuration -----------------------------------------------------------------------------

    def configuration_problems(self) -> list[str]:
        """Return what is missing in the configuration, for `manage.py check`."""
        found = []
        if not setting(self.url_setting):
            found.append(f"Set {self.url_setting}.")
        if self.is_key_needed and not setting(self.key_setting):
            found.append(f"Set {self.key_setting}.")
        if self.is_model_needed and not self.model:
            found.append('Name a model: {"options": {"model": "..."}}.')
        return found

    def inputs(self, work: Work) -> dict[str, Any]:
        """Return the model's inputs for one job."""
        files = {name: self.handed(name, work) for name in work.inputs}
        return self.body(work.task_type, work.task_data, work.model, files)

    def handed(self, name: str, work: Work) -> Any:
        """Return an input in the form that the model takes: where each file can be read.

        Raises:
            ProviderError: ``provider_rejected``, if it can be handed over in no way.
        """
        found = [place_of(file, work.seconds_left) for file in work.inputs[name]]
        return found if name in LISTS else found[0]


def place_of(file: InputFile, seconds: int) -> str:
    """Return a link that lives for so many seconds, or a data URL where nobody could fetch it.

    Raises:
        ProviderError: ``provider_rejected``, if it is too large for a data URL.
    """
    link = file.link(seconds)
    if link.startswith("https://"):
        return link
    if file.size_bytes > MAX_INLINE_BYTES:
        text = f"{file.name} is too large to be sent without a PUBLIC_URL that is https."
        raise ProviderError("provider_rejected", text)
    return f"data:{file.media_type};base64,{base64.b64encode(file.read()).decode()}"


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
