"""How do log lines look, how does a request id get into them, and what must never be in one?

Lines are JSON in production and plain text in development. The request id is set in the web
process and stored with the task and its events, so worker and engine log it, too.

For an exception a line shows its frames and type, but not its text, which may quote a prompt, a row
or a key; LOG_LEVEL=DEBUG shows the text as well. Values of secret environment variables, and
anything that looks like one of our secrets, are masked everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import logging.config
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dramatiq
import orjson
import structlog

Line = MutableMapping[str, Any]

ROOT = Path(__file__).resolve().parent.parent
MASK = "***"
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD")
#: Signing secrets, Ed25519 keys, API keys, and the user information of URLs.
_OURS = r"wh(?:sec|sk)_[A-Za-z0-9+/=_-]+|\b[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}\b|(?<=://)[^/\s@]+(?=@)"
#: `METHOD /path?query` of a request: values of a query, and the token of a media link.
_QUERY = re.compile(r"\?\S*")
_MEDIA_TOKEN = re.compile(r"(/media/[^/\s]+/)[^/\s]+")
#: The end of an API key. Begins with plain text, which makes the search cheap.
_KEY_TAIL = re.compile(r"\.[A-Za-z0-9]{32}\b")
_PLAIN = re.compile(r"[^\s\"'\\]+")

#: Loggers of libraries that log from WARNING on only.
QUIET = ("django_structlog", "dramatiq", "asyncio")


@functools.lru_cache(maxsize=4)
def _clock_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamped(logger: Any, method: str, line: Line) -> Line:
    """Add the time in structlog's format, at a third of the cost of its own processor."""
    second, part = divmod(time.time(), 1)
    line["timestamp"] = f"{_clock_text(int(second))}.{int(1e6 * part):06d}Z"
    return line


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    stamped,
]


def logging_config(log_format: str, level: str) -> None:
    """Configure structlog and the standard library's logging to write one kind of line."""
    finish: list[Any] = [
        structlog.processors.ExceptionRenderer(
            full_text if level.upper() == "DEBUG" else frames_only
        ),
        in_order,
        json_line if log_format == "json" else plain_line,
        Masking(os.environ),
    ]
    # Our own lines bypass the standard library: each delivery logs one, and the way through Logger,
    # LogRecord and Formatter took as long as the request itself.
    structlog.configure(
        processors=[without_chatter, *SHARED, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=Lines,
        cache_logger_on_first_use=True,
    )
    line = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        "foreign_pre_chain": SHARED,
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": line},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "django.request": {"level": "ERROR"},
                **{name: {"level": "WARNING"} for name in QUIET},
            },
        }
    )
    threading.excepthook = _thread_crashed


def without_chatter(logger: Any, method: str, line: Line) -> Line:
    """Drop what libraries log for each request; the proxy in front writes an access log."""
    if method in ("debug", "info") and logger.name.startswith(QUIET):
        raise structlog.DropEvent
    return line


class Lines:
    """Writes finished lines to stderr, each in one write, from any thread."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        """Write one line; a closed stderr must not raise in the code that logs."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = exception = msg


# -- what a line may say --------------------------------------------------------------------------


def full_text(exc_info: Any) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip()


def frames_only(exc_info: Any) -> str:
    """Return the frames and types of an exception and its causes, without their texts."""
    error: BaseException | None = exc_info[1]
    parts: list[str] = []
    while error is not None and len(parts) < 5:
        frames = [
            f'  File "{_short(frame.filename)}", line {frame.lineno}, in {frame.name}'
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        parts.append("\n".join(["Traceback (most recent call last):", *frames, name]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nwhich led to\n\n".join(reversed(parts))


def _short(filename: str) -> str:
    path = Path(filename)
    if path.is_relative_to(ROOT) and ".venv" not in path.parts:
        return path.relative_to(ROOT).as_posix()
    return "/".join(path.parts[-3:]).replace("//", "/")


class Masking:
    """Replace every secret in a finished line by `***`.

    Nearly every line has none, which a few plain-text searches show: a regular expression over each
    line would double the cost of the engine's lines.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        known = {
            text  # in each form in which a renderer may write it
            for value in _secrets_of(environment)
            for text in (value, json.dumps(value)[1:-1], repr(value)[1:-1])
        }
        self._marks = ["whsec_", "whsk_", "@", *known]
        longest_first = sorted(known, key=len, reverse=True)
        self._secret = re.compile("|".join([*map(re.escape, longest_first), _OURS]))

    def __call__(self, logger: Any, method: str, text: str) -> str:
        if any(mark in text for mark in self._marks) or _KEY_TAIL.search(text):
            return self._secret.sub(MASK, text)
        return text


def _secrets_of(environment: Mapping[str, str]) -> set[str]:
    """Return the secrets in the environment: values of secret variables and passwords in URLs."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found.update(part.strip() for part in value.split(","))
        elif name.endswith("_URL") and "@" in value:
            password = urlsplit(value).password or ""
            found |= {password, unquote(password)}
    return {value for value in found if len(value) >= 8}


def in_order(logger: Any, method: str, line: Line) -> Line:
    """Sort the keys: the standard ones first, then the event's own in their given order.

    Of a request only the path is shown, and of a media link not its token.
    """
    if isinstance(request := line.get("request"), str):
        line["request"] = _MEDIA_TOKEN.sub(rf"\1{MASK}", _QUERY.sub(f"?{MASK}", request))
    heads = {name: line.pop(name, "") for name in ("timestamp", "level", "event")}
    tails = {name: line.pop(name) for name in ("logger", "exception") if name in line}
    return {**heads, **line, **tails}


def json_line(logger: Any, method: str, line: Line) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(line, default=str)


def plain_line(logger: Any, method: str, line: Line) -> str:
    """Return `time LEVEL   event key=value ...`, without control characters for a terminal."""
    time, level, event = (str(line.pop(name)) for name in ("timestamp", "level", "event"))
    exception = line.pop("exception", "")
    source = line.pop("logger", "")
    pairs = [f"{key}={_value(value)}" for key, value in line.items()]
    head = f"{level.upper():<7}"
    if sys.stderr.isatty():
        colour = {"error": 31, "critical": 31, "warning": 33}.get(level, 32)
        head = f"\x1b[{colour}m{head}\x1b[0m"
    text = " ".join(
        [
            time[11:23],
            head,
            "".join(c if c.isprintable() else repr(c)[1:-1] for c in event),
            *pairs,
            f"({source})",
        ]
    )
    return f"{text}\n{exception}" if exception else text


def _value(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else repr(text)


def _thread_crashed(hook: threading.ExceptHookArgs) -> None:
    """Log a crashed thread like anything else; Python's own message would quote the exception."""
    name = hook.thread.name if hook.thread else ""
    info = (hook.exc_type, hook.exc_value, hook.exc_traceback)
    structlog.get_logger(__name__).error("Thread crashed", thread=name, exc_info=info)


# -- how an id travels ----------------------------------------------------------------------------


#: The ids of a request that the worker's lines show, too.
_CARRIED = ("request_id", "trace_id")


class LogContextMiddleware(dramatiq.Middleware):
    """Carry the request's ids in the ticket, so that the worker's lines show them."""

    def before_enqueue(self, broker: dramatiq.Broker, message: Any, delay: Any) -> None:
        known = structlog.contextvars.get_contextvars()
        for name in _CARRIED:
            if value := known.get(name):
                message.options.setdefault(name, value)

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        structlog.contextvars.clear_contextvars()
        known = {name: message.options[name] for name in _CARRIED if name in message.options}
        structlog.contextvars.bind_contextvars(**known)

    def after_process_message(
        self, broker: dramatiq.Broker, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        structlog.contextvars.clear_contextvars()
