"""What do we tell people when a task fails? One sentence per code.

An exception's text may quote a prompt, a path or a key, so the sentence does not contain it.
"""

from __future__ import annotations

SENTENCES = {
    "provider_unavailable": "Task execution failed: the provider could not be reached.",
    "provider_rate_limited": "Task execution failed: the provider asked us to slow down.",
    "provider_rejected": "Task execution failed: the provider refused the request.",
    "content_refused": "Task execution failed: the provider refused the content.",
    "provider_auth": "Task execution failed: the provider did not accept our credentials.",
    "timed_out": "Task execution failed: it took longer than it was allowed to.",
    "render_failed": "Task execution failed: the renderer stopped with an error.",
    "renderer_incomplete": (
        "Task execution failed: the built-in renderer misses system libraries"
        " (Debian, Ubuntu: apt-get install libgl1 libegl1 libexpat1)."
    ),
    "output_invalid": "Task execution failed: what was made is not a valid media file.",
    "probe_timed_out": (
        "Task execution failed: what was made could not be checked in the time there is."
    ),
    "storage_failed": "Task execution failed: the media could not be stored.",
    "worker_lost": "Task execution failed: too many workers were lost under it.",
    "internal_error": "Task execution failed",
}


def sentence(error_code: str) -> str:
    """Return the one sentence that goes with an error code."""
    return SENTENCES.get(error_code, SENTENCES["internal_error"])
