"""How is a probed file described as a provider's output?"""

from __future__ import annotations

from pathlib import Path

from tasks_app.media.probe import ProbedFile
from tasks_app.providers.base import MediaOutput


def output(role: str, path: Path, file: ProbedFile) -> MediaOutput:
    """Return the description of the file at ``path``, as probing found it."""
    return MediaOutput(
        role=role,
        path=path,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        width=file.width,
        height=file.height,
        duration=file.duration,
        fps=file.fps,
        codecs=file.codecs,
    )
