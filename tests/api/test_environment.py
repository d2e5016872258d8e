"""Is a variable that cannot be read told by its name, and never taken for something else?"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from moviesvc.environment import Environment
from tests import ROOT

WRONG = {
    "MEDIA_RETENTION_DAYS": ("x", "MEDIA_RETENTION_DAYS is a whole number, not 'x'."),
    "WEBHOOK_TIMEOUT_SECONDS": ("2m", "WEBHOOK_TIMEOUT_SECONDS is a number, without a unit, not"),
    "WEBHOOK_REQUIRE_HTTPS": ("enabled", "WEBHOOK_REQUIRE_HTTPS is on or off, not 'enabled'."),
    "TASK_RETRY_WAITS": ("5;30", "TASK_RETRY_WAITS is a number, without a unit, not '5;30'."),
    "GENERATION_PRICES": ("{", "GENERATION_PRICES is no JSON: "),
    "ADMIN_ALLOW_NETWORKS": ("10.8.0.1/16", "ADMIN_ALLOW_NETWORKS: 10.8.0.1/16 has host bits set"),
    "ENVIRONMENT": ("Production", "ENVIRONMENT is one of development, production, not"),
    "WEB_PROCESSES": ("two", "WEB_PROCESSES is a whole number, not 'two'."),
}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What reads the variables, and a function that sets one."""
    return Environment(), monkeypatch.setenv


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_cannot_be_read_is_one_sentence(name: str, tmp_path: Any) -> None:
    """The programme does not start, and says which variable is wrong and what it takes."""
    text, sentence = WRONG[name]
    command = "run" if name == "WEB_PROCESSES" else "check"
    ended = subprocess.run(
        [sys.executable, "manage.py", command],
        cwd=ROOT,
        env={**os.environ, "VAR_DIR": str(tmp_path), name: text},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_secret_may_begin_with_a_dollar_sign(env: Any) -> None:
    """It is no name of another variable, whose absence would leave us with another secret."""
    read, put = env
    put("SECRET_KEY", "$abc")
    assert read.str("SECRET_KEY", default="") == "$abc"


@pytest.mark.parametrize(("text", "meaning"), [("on", True), ("TRUE", True), ("0", False)])
def test_switches_have_a_few_spellings(env: Any, text: str, meaning: bool) -> None:
    """What people write for on and off is understood, in any case."""
    read, put = env
    put("SWITCH", text)
    assert read.bool("SWITCH", default=not meaning) is meaning


def test_an_empty_value_is_an_unset_one(env: Any) -> None:
    """As compose files and unit files leave it: the default counts, `on` included."""
    read, put = env
    for name in ("SWITCH", "NUMBER", "WAITS", "NETWORKS", "DOCUMENT"):
        put(name, "")
    assert read.bool("SWITCH", default=True) is True
    assert read.int("NUMBER", default=7) == 7
    assert read.networks("NETWORKS") == []
    assert read.json("DOCUMENT", default={}) == {}


def test_no_secret_is_quoted(env: Any) -> None:
    """A JSON that cannot be read may hold a token, which is not in the sentence."""
    read, put = env
    put("COMFYUI_HEADERS", '{"gpu-a": {"X-Token": "s3cret"}')
    with pytest.raises(ImproperlyConfigured) as refused:
        read.json("COMFYUI_HEADERS", default={})
    assert "s3cret" not in str(refused.value)
