"""What is a provider? The one interface behind which every kind of media is made.

A provider turns a task's validated ``task_data`` into files. It knows nothing of
the database, of Dramatiq or of webhooks: the runner hands it a `Job` and a
`Context` and gets a `Result` back, or one of the two exceptions below. This module
imports neither Django nor any model, so a child process can load it cheaply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tasks_app.failures import is_retryable


class ProviderError(Exception):
    """The work failed; ``code`` says whose fault it was, ``message`` is for operators.

    Args:
        code: one of `failures.ERROR_CODES` (an unknown code counts as permanent).
        message: one sentence for the log; never a secret. Clients get one of `tasks_app.failures`.
        retryable: overrides the code's own answer.
        retry_after: seconds the far side asked us to wait, if it did.
        traceback_text: our own frames, project-relative, for operators.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        retryable: bool | None = None,
        retry_after: float | None = None,
        traceback_text: str = "",
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retryable = is_retryable(code) if retryable is None else retryable
        self.retry_after = retry_after
        self.traceback_text = traceback_text


class Cancelled(Exception):
    """The context said so, and everything the provider had started is gone."""


class CancelOutcome(StrEnum):
    """What became of a request to cancel remote work."""

    CONFIRMED = "confirmed"
    REQUESTED = "requested"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request: where (JSON pointer), what, and in words."""

    pointer: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one task.

    ``work_dir`` exists, is empty and belongs to this attempt alone; the runner
    removes it. ``deadline`` is a `time.monotonic()` value of the runner's process.
    ``remote_state`` is what an earlier attempt passed to `Context.save_remote`.
    """

    task_id: str
    attempt: int
    task_type: str
    task_data: dict[str, Any]
    work_dir: Path
    deadline: float
    remote_state: dict[str, Any] | None = None


class Context(Protocol):
    """The runner as a provider sees it. Every method may be called from one thread only."""

    def progress(self, fraction: float, step: str, detail: str = "") -> None:
        """Say how far the work is: 0..1, never going back; cheap to call often."""

    def cancelled(self) -> bool:
        """Tell whether the work is no longer wanted (cancelled, lost, shutting down)."""

    def is_over(self) -> bool:
        """Tell whether the task has ended (cancelled), so that nobody will resume remote work."""

    def save_remote(self, state: dict[str, Any]) -> None:
        """Make ``state`` durable before returning, so that a crash resumes a paid job."""

    def seconds_left(self) -> float:
        """Seconds until the deadline; negative when it has passed."""


@dataclass(frozen=True, slots=True)
class MediaOutput:
    """One finished file, described by probing the file itself, never by the request.

    ``role``: primary, thumbnail, poster, waveform, subtitles or primary_2, primary_3 ...
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
    """What came out: the files, and who made them.

    ``files`` holds exactly one output whose role is ``primary``. ``cost`` is what the
    provider charged, for example ``{"amount": "0.12", "currency": "USD"}``, or None.
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
    """One maker of media. Instances are shared by all worker threads of a process.

    ``is_local``: the work burns this machine's cores, so that at most ``RENDER_SLOTS`` run
    at once; one that waits for a far side needs no slot.
    """

    name: str
    is_local: bool
    task_types: frozenset[str]

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Return this provider's own limits that ``task_data`` breaks, at submit time."""

    def generate(self, job: Job, context: Context) -> Result:
        """Make the media.

        Raises:
            ProviderError: the work failed.
            Cancelled: `Context.cancelled` became true and the work is stopped.
        """

    def cancel(self, remote_state: dict[str, Any]) -> CancelOutcome:
        """Ask the far side to stop work described by ``remote_state``."""
