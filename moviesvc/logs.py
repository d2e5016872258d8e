"""How do log lines look, and how does an id travel from a request to a worker's line?

Lines are JSON in production and plain text in development. The request id is bound
in the web process, carried by the ticket and bound again in the worker.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import dramatiq
import structlog
from structlog.typing import EventDict


def _add_context(_logger: Any, _name: str, line: EventDict) -> EventDict:
    """Add the bound ids behind the line's own keys, whose order operators grep for."""
    return {**line, **structlog.contextvars.get_contextvars(), **line}


def _name_source_last(_logger: Any, _name: str, line: EventDict) -> EventDict:
    """Move the logger's name to the end; the console prints a `logger` right after the event."""
    line["source"] = line.pop("logger", "")
    return line


SHARED: list[Any] = [
    _add_context,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _rendering(log_format: str) -> list[Any]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer()]
    is_terminal = sys.stderr.isatty()
    console = structlog.dev.ConsoleRenderer(
        colors=is_terminal,
        pad_event_to=0,
        sort_keys=False,
        # The default prints the local variables of every frame, secrets included.
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [_name_source_last, console]


def logging_config(log_format: str, level: str) -> None:
    """Configure structlog and the standard library's logging to write one kind of line."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.processors.format_exc_info
            if log_format == "json"
            else structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *_rendering(log_format),
                    ],
                    "foreign_pre_chain": SHARED,
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "django.request": {"level": "ERROR"},
                "django_structlog": {"level": "WARNING"},
                "dramatiq": {"level": "WARNING"},
                "asyncio": {"level": "WARNING"},
            },
        }
    )


class LogContextMiddleware(dramatiq.Middleware):
    """Carry the request id inside the ticket, so that a worker's lines name the request."""

    def before_enqueue(self, broker: dramatiq.Broker, message: Any, delay: Any) -> None:
        """Put the current request id into the ticket."""
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        if request_id:
            message.options.setdefault("request_id", request_id)

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        """Start the worker's log context afresh."""
        structlog.contextvars.clear_contextvars()
        if request_id := message.options.get("request_id"):
            structlog.contextvars.bind_contextvars(request_id=request_id)

    def after_process_message(
        self, broker: dramatiq.Broker, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """Forget this ticket's context."""
        structlog.contextvars.clear_contextvars()
