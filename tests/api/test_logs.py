"""Do log lines keep the contract's texts and order, and keep secrets out, in both formats?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from moviesvc.logs import Masking, frames_only, in_order, plain_line

#: Writes one line of each kind, as any of our processes would.
PROGRAM = """
import logging, sys, threading
from moviesvc.logs import logging_config
logging_config(sys.argv[1], sys.argv[2])
import structlog
structlog.get_logger("django_structlog.middlewares.request").info("request_started")
log = structlog.get_logger("webhooks_app.delivery.attempt_log")
log.info("Webhook sent successfully", callback_url="https://a.example.org/x?token=***",
         status_code=200, task_id="t-1", attempt=1, message_id="msg_1")
log.warning("Webhook request failed", callback_url="https://a.example.org/x", error="timed out",
            attempt=1, task_id="t-1", message_id="msg_1")
log.error("Failed to send webhook after all retries", callback_url="https://a.example.org/x",
          task_id="t-1", message_id="msg_1")
def crash(): raise RuntimeError("canary-of-a-thread")
thread = threading.Thread(target=crash); thread.start(); thread.join()
try:
    try: raise ValueError("canary-of-a-cause")
    except ValueError as error: raise KeyError("canary-of-an-exception") from error
except KeyError:
    log.exception("Broken")
    logging.getLogger("django.request").error("Broken elsewhere", exc_info=True)
logging.getLogger("x").warning("postgresql://u:canary-of-a-password@h/x %s", "canary-of-a-key")
"""
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://u:canary-of-a-password@host/movies",
    "PROVIDER_API_KEY": "canary-of-a-key",
}


def lines(log_format: str, level: str = "INFO") -> list[str]:
    """Return what the program logged."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format, level],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stderr.splitlines()


def test_plain_lines_have_the_fixed_texts_and_key_order() -> None:
    """What operators grep for is one text: level, event, then the keys in their order."""
    found = [line.partition(" ")[2] for line in lines("console")]
    assert found[0] == (
        "INFO    Webhook sent successfully callback_url=https://a.example.org/x?token=***"
        " status_code=200 task_id=t-1 attempt=1 message_id=msg_1"
        " (webhooks_app.delivery.attempt_log)"
    )
    assert found[1].startswith(
        "WARNING Webhook request failed callback_url=https://a.example.org/x error='timed out'"
        " attempt=1 task_id=t-1"
    )
    assert found[2].startswith(
        "ERROR   Failed to send webhook after all retries callback_url=https://a.example.org/x"
        " task_id=t-1"
    )
    assert not any("\x1b" in line for line in found), "coloured although this is no terminal"


def test_json_lines_carry_the_text_as_event() -> None:
    """Each line is one object that begins with time, level and event."""
    found = [json.loads(line) for line in lines("json")]
    assert list(found[0])[:7] == [
        *("timestamp", "level", "event"),
        *("callback_url", "status_code", "task_id", "attempt"),
    ]
    assert [line["event"] for line in found[:3]] == [
        "Webhook sent successfully",
        "Webhook request failed",
        "Failed to send webhook after all retries",
    ]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_tell_where_and_what_but_not_their_text(log_format: str) -> None:
    """An exception's text may quote anything; only DEBUG shows it, for try-outs."""
    text = "\n".join(lines(log_format))
    assert "canary" not in text
    for expected in ("KeyError", "ValueError", "which led to", "RuntimeError", "in crash"):
        assert expected in text
    debug = "\n".join(lines(log_format, "DEBUG"))
    assert "canary-of-an-exception" in debug
    assert "canary-of-a-password" not in debug
    assert "canary-of-a-key" not in debug


def test_what_looks_like_a_secret_of_ours_is_masked_in_any_value() -> None:
    """Signing secrets, API keys, passwords in URLs, query values and media tokens."""
    line = {
        "request": "GET /media/0123456789abcdef/tokentoken/clip.mp4?x=query-value",
        "a": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "b": ["key AbCdEfGh.0123456789abcdef0123456789abcdef"],
        "c": "https://user:password@host/",
        "d": 5,
        "e": ["kept", 1],
    }
    shown = in_order(None, "info", {**line, "level": "info", "timestamp": "", "event": "x"})
    mask = Masking({"X_TOKEN": "short", "Y_PASSWORD": 'quoted"pass word'})
    found = json.loads(mask(None, "info", json.dumps(shown)))
    assert {key: found[key] for key in line} == {
        "request": "GET /media/0123456789abcdef/***/clip.mp4?***",
        "a": "***",
        "b": ["key ***"],
        "c": "https://***@host/",
        "d": 5,
        "e": ["kept", 1],
    }
    assert mask(None, "info", json.dumps('say quoted"pass word')) == '"say ***"'
    assert mask(None, "info", "an address: a@b.c, a short one") == "an address: a@b.c, a short one"


def test_a_line_cannot_steer_a_terminal_or_forge_another() -> None:
    """Control characters in values and texts are written as escapes."""
    line = {"event": "bad\x1b[2J\nINFO    forged", "x": "a\nb", "level": "info", "timestamp": ""}
    text = plain_line(None, "info", dict(in_order(None, "info", line)))
    assert text.isprintable()


def test_a_long_chain_of_causes_ends() -> None:
    """An exception that is its own context does not hang the logger."""
    error = ValueError("x")
    error.__context__ = error
    assert frames_only((ValueError, error, None)).count("ValueError") == 5
