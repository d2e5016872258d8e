"""What is a provider? The one interface behind which every kind of media is made.

A provider turns a task's validated ``task_data`` into files. It knows nothing of the database,
Dramatiq or webhooks: the worker calls it with a `Job` and a `Context`, and gets a `Result` or one
of the two exceptions below. This module imports neither Django nor a model, so that a child process
can load it quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tasks_app.failures import is_retryable

if TYPE_CHECKING:
    from tasks_app.providers.accepts import Accepts


class ProviderError(Exception):
    """The work failed; ``code`` is the cause, ``message`` is for operators.

    Args:
        code: one of `failures.ERROR_CODES` (an unknown code counts as permanent).
        message: one sentence for the log; never a secret. Clients get one of `tasks_app.failures`.
        retryable: overrides the code's own answer.
        retry_after: seconds the far side asked us to wait, if it did.
        traceback_text: our own frames, project-relative, for operators.
        status: the HTTP status that the far side answered with.
        words: the far side's own words, for operators only.
        told: what clients are told beside the code's sentence; in our words.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
        traceback_text: str = "",
        status: int | None = None,
        words: str = "",
        told: str = "",
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retryable = is_retryable(code) if retryable is None else retryable
        self.retry_after = retry_after
        self.traceback_text = traceback_text
        self.status = status
        self.words = words
        self.told = told


class Cancelled(Exception):
    """The context asked to stop, and everything the provider had started has ended."""


class BadSignature(Exception):
    """A call's signature is not the provider's."""


@dataclass(frozen=True, slots=True)
class Callback:
    """What a provider's call means: it is a hint to look, unless it brings the ``result``."""

    result: dict[str, Any] | None = None


class CancelOutcome(StrEnum):
    """Result of a request to cancel remote work."""

    CONFIRMED = "confirmed"
    REQUESTED = "requested"
    #: It had ended before, perhaps with a result.
    ENDED = "ended"
    #: The service does not know it.
    UNKNOWN = "unknown"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a request: where (JSON pointer), a code, and a sentence."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one task.

    ``work_dir`` exists, is empty and belongs to this attempt only; the worker deletes it.
    ``deadline`` is a `time.monotonic()` value of the worker's process.
    """

    task_id: str
    attempt: int
    task_type: str
    task_data: dict[str, Any]
    work_dir: Path
    deadline: float


class Context(Protocol):
    """The worker, as a provider sees it. Call every method from one thread only."""

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        """Report progress: 0..1, never decreasing; may be called often."""

    def cancelled(self) -> bool:
        """Say whether the work is no longer wanted (cancelled, lost, shutting down)."""

    def seconds_left(self) -> float:
        """Return the seconds until the deadline; negative when it has passed."""


@dataclass(frozen=True, slots=True)
class MediaOutput:
    """One finished file, described by probing the file itself, never by the request.

    ``role``: primary, thumbnail, poster, last_frame, waveform, subtitles or primary_2 ...
    ``path`` lies in the job's work directory. ``duration`` in seconds, ``fps`` in
    frames per second; None where the medium has no such thing. ``codecs``: for
    example ``("h264", "aac")``.
    """

    role: str
    path: Path
    media_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    fps: float | None = None
    codecs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The result: the files, and which provider and model made them.

    ``files`` holds exactly one output whose role is ``primary``. ``cost`` is what the provider
    charged, for example ``{"amount": "0.12", "currency": "USD"}``; without it the cost is that of
    `tasks_app.providers.prices`.
    """

    files: tuple[MediaOutput, ...]
    provider: str
    model: str
    seed: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] | None = None

    @property
    def primary(self) -> MediaOutput:
        """Return the file the client asked for."""
        return next(output for output in self.files if output.role == "primary")


@runtime_checkable
class Provider(Protocol):
    """One maker of media on this machine, or the common part of all providers.

    Instances are shared by all worker threads of a process. ``model``: the one that it uses where a
    task names none, for its price; it may be left out. ``is_local``: the work uses this
    machine's processors, so at most ``RENDER_SLOTS`` run at once. What works elsewhere is a
    `providers.remote.base.RemoteProvider` and has no `generate`. ``models``: what a task may name;
    the first is the default.
    """

    name: str
    is_local: bool
    task_types: frozenset[str]
    models: tuple[str, ...]

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Return what this provider uses of a task, as `tasks_app.providers.accepts` says it."""

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Return everything in ``task_data`` that this provider does not use, at submit time.

        ``task_data`` holds what the client said, without any defaults.
        """


@runtime_checkable
class LocalProvider(Provider, Protocol):
    """A maker of media that works in a thread of ours, whatever it may ask elsewhere meanwhile."""

    def generate(self, job: Job, context: Context) -> Result:
        """Make the media.

        Raises:
            ProviderError: the work failed.
            Cancelled: `Context.cancelled` became true and the work is stopped.
        """
