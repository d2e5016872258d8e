"""Does every command take every argument, however bad, without a traceback and without a row?"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import connection, transaction

from tests.support import factories
from webhooks_app.operators.command import UNEXPECTED

OWN = sorted(
    name for name, app in get_commands().items() if app in ("moviesvc", "tasks_app", "webhooks_app")
)
#: What somebody may write where a value belongs; the third is a byte that is not UTF-8.
VALUES = [
    *("", "a\x00b", "a\udcffb", "🎬", "x" * 20_000, "-5", "0", "nan", "9" * 5_000, "2147483648"),
    *("0001-01-01T00:00+14:00", "9999-12-31T23:59:59-14:00", "2025-02-30", "https://[::1"),
    *("00000000-0000-0000-0000-000000000000", "/proc/nowhere/x"),
]
#: What a command is given besides the argument that is tried: what it needs, and what keeps it
#: from going on for ever or from deleting anything.
BESIDES = {
    "comfyui_template": ["/proc/nowhere/graph.json"],
    "create_api_key": ["a name"],
    "credential": ["list", "film"],
    "destination": ["resume", "--all", "--yes"],
    "project": ["film"],
    "prune": ["--dry-run"],
    "prune_webhooks": ["--dry-run"],
    "replay_webhooks": ["--yes", "--timeout=0"],
}
#: The codes of those that need no database for what they are asked, or say more themselves.
WITHOUT = {"adopt_storage": 0, "check": 0, "listen": 2}
#: They go on until they are stopped: only what they refuse ends them here.
ENDLESS = ("deliver_webhooks", "demo", "run")
ROW = ("Failing row", "DETAIL", "Key (", "Traceback", "Error(", "psycopg", "LINE 1")


@pytest.fixture(autouse=True)
def taken() -> Iterator[str]:
    """A port that is taken; with it, or an address of others, `listen` ends."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


def beside(name: str, parser: argparse.ArgumentParser, taken: str) -> list[str]:
    """Return what a command needs besides the argument that is tried."""
    needed = list(BESIDES.get(name, []))
    if name == "listen":
        needed += ["--port", taken, "--host", "203.0.113.1"]
    if "--reason" in parser._option_string_actions and name != "remote_work":  # of a pause alone
        needed.append("--reason=a test")
    return needed


def attempts(name: str, taken: str) -> Iterator[list[str]]:
    """Yield the arguments of each try: one value, bad or odd, for one argument."""
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    besides = beside(name, parser, taken)
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        if action.nargs == 0:
            if name not in (*ENDLESS, "prune", "prune_webhooks", "listen"):
                yield [*besides, action.option_strings[0]]
            continue
        for value in VALUES:
            if not action.option_strings:
                yield [value]
            elif name not in ENDLESS or action.choices or action.type:
                yield [*besides, f"{action.option_strings[0]}={value}"]


def outcome(name: str, arguments: list[str]) -> tuple[Any, str]:
    """Return how a command ended: its exit code and its last words."""
    try:
        if not connection.in_atomic_block:
            call_command(name, *arguments)
        else:  # of the test: what fails in it must not end it
            with transaction.atomic():
                call_command(name, *arguments)
                transaction.set_rollback(True)
    except CommandError as refused:
        return refused.returncode, str(refused)
    except SystemExit as ended:
        return ended.code, ""
    return 0, ""


@pytest.mark.django_db
@pytest.mark.parametrize("name", OWN)
def test_no_argument_leads_to_a_traceback_or_a_row(
    name: str, taken: str, capfd: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every value for every argument is taken or refused in words that say what to do."""
    monkeypatch.chdir(tmp_path)
    factories.make_dead_letter()
    faults = []
    for arguments in attempts(name, taken):
        try:
            code, words = outcome(name, arguments)
        except Exception as error:
            code, words = UNEXPECTED, f"Traceback: {type(error).__name__}: {error}"
        said = words + "".join(capfd.readouterr())
        if code == UNEXPECTED or any(part in said for part in ROW) or len(words) > 6_000:
            faults.append((arguments[-1][:60], code, words[:200]))
    assert faults == []
    assert connection.is_usable()


@pytest.mark.parametrize("place", [{"NAME": "postgres"}, {"HOST": "/nowhere"}], ids=str)
def test_every_command_tells_in_a_sentence_that_the_database_cannot_be_used(
    place: dict[str, str], taken: str, capfd: Any, django_db_blocker: Any, monkeypatch: Any
) -> None:
    """Without tables, and without a server, each ends with code 4 and says which it is."""
    for name, value in place.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    with django_db_blocker.unblock():
        connection.close()
        try:
            for name in sorted({*OWN} - {*ENDLESS}):
                parser = load_command_class(get_commands()[name], name).create_parser("", name)
                arguments = beside(name, parser, taken)
                if name == "check":
                    arguments = ["--database", "default"]
                code, words = outcome(name, arguments)
                assert code in (1, 4, WITHOUT.get(name)), (name, code, words)
                said = words + "".join(capfd.readouterr())
                assert not [part for part in ROW if part in said], (name, said)
        finally:
            connection.close()
