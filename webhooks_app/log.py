"""Where do log lines go? Through structlog where the project configured it, else to ``logging``.

Either way the project decides what becomes of them; without a word from it only warnings and
errors are seen, as Python has it.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, cast

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    return cast(structlog.stdlib.BoundLogger, _Logger(name))


class _Logger:
    """Decides at the first line of each kind: modules are loaded before all is configured."""

    def __init__(self, name: str) -> None:
        self._name = name
        #: Kept, since structlog makes a new logger at each request for one.
        self._structlog: Any = None

    def __getattr__(self, method: str) -> Any:
        if not structlog.is_configured():
            return getattr(_standard(self._name), method)
        if self._structlog is None:
            self._structlog = structlog.get_logger(self._name)
        return getattr(self._structlog, method)


def _standard(name: str) -> Any:
    processors: list[Any] = [
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        _one_line,
    ]
    logger = logging.getLogger(name)
    return structlog.wrap_logger(
        logger, processors=processors, wrapper_class=structlog.stdlib.BoundLogger
    )


def _one_line(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, Any]]:
    """Write the fields behind the text; a traceback is left to ``logging``."""
    told = {name: event.pop(name) for name in ("exc_info", "stack_info") if name in event}
    text = str(event.pop("event"))
    fields = (f"{name}={value!r}" for name, value in event.items())
    return (" ".join([text, *fields]),), told
