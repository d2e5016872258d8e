"""Does every command say in its help what it does, how it is used, and what its codes mean?"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import connection

from tasks_app.upkeep import sweep
from tests import ROOT
from tests.support import factories
from webhooks_app.operators.command import OperatorCommand, progress

OWN = sorted(
    name for name, app in get_commands().items() if app in ("moviesvc", "tasks_app", "webhooks_app")
)


def test_every_command_of_the_contract_is_there() -> None:
    """The documented list of commands is complete."""
    assert [
        *("adopt_storage", "check", "comfyui_template", "create_api_key", "credential"),
        *("deliver_webhooks", "demo", "destination", "listen", "project", "prune"),
        "prune_webhooks",
        *("remote_work", "replay_webhooks"),
        *("rotate_secret_keys", "run", "simulate_retries", "sweep_tasks"),
    ] == OWN


@pytest.mark.parametrize("name", OWN)
def test_help_has_a_description_examples_and_exit_codes(name: str) -> None:
    """Each example parses, each option is explained, and code 0 is among the codes."""
    command = load_command_class(get_commands()[name], name)
    assert isinstance(command, OperatorCommand)
    parser = command.create_parser("manage.py", name)
    text = parser.format_help()
    assert len(str(parser.description)) > 60
    assert "Examples:" in text
    assert "Exit codes:" in text
    assert "--pythonpath" not in text, "Django's own options hide the command's"
    assert 0 in command.exit_codes
    assert all(action.help for action in parser._actions), "an option without a word on it"
    for arguments, purpose in command.examples:
        assert purpose
        assert f"python manage.py {name} {arguments}".rstrip() in text
        parser.parse_args(shlex.split(arguments))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell does."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_codes_reach_the_shell() -> None:
    """A message that would be dead is 1 in a real shell, too, as the help says."""
    assert run("simulate_retries", "500").returncode == 1


def test_a_database_that_cannot_be_used_is_a_sentence() -> None:
    """An empty database and an unreachable one give different sentences, both with code 4."""
    server = os.environ["DATABASE_URL"]
    empty = run(
        "replay_webhooks", "--dry-run", DATABASE_URL=server.replace("/movies?", "/postgres?")
    )
    away = run("create_api_key", "x", DATABASE_URL=server.replace("host=", "host=/nowhere"))
    assert (empty.returncode, away.returncode) == (4, 4)
    assert "run `manage.py migrate` first" in empty.stderr
    assert "The database is out of reach" in away.stderr
    found = run("check", "--database", "default", DATABASE_URL=server.replace("host=", "host=/no"))
    assert found.returncode == 1
    assert "The database is out of reach. It says: connection" in found.stderr
    assert "Traceback" not in empty.stderr + away.stderr + found.stderr


def test_a_server_that_cannot_start_is_a_sentence(tmp_path: Path) -> None:
    """Any command that comes first says why the embedded servers cannot start."""
    (tmp_path / "run").touch()  # where the folder of the sockets should be
    done = run("check", DATABASE_URL="", EMBEDDED="on", VAR_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.endswith("/run: File exists.\n")
    assert "Traceback" not in done.stderr


def test_run_and_listen_say_that_a_port_is_taken(tmp_path: Path) -> None:
    """If the port is taken, one command ends with 1 and the other with 2, with one sentence."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        service = run("run", VAR_DIR=str(tmp_path), PORT=port)
        listener = run("listen", "--port", port)
    assert service.returncode == 1
    assert "Choose another port" in service.stderr
    assert listener.returncode == 2
    assert "Traceback" not in service.stderr + listener.stderr


def test_demo_says_why_it_cannot(tmp_path: Path) -> None:
    """Beside a service without a development key the demo ends with 1 and says so."""
    details = {"supervisor": os.getpid(), "url": "http://127.0.0.1:9", "api_key": None}
    (tmp_path / "run.json").write_text(json.dumps(details))
    done = run("demo", VAR_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "development mode" in done.stderr


@pytest.mark.django_db
def test_create_api_key_tells_usage_from_absence() -> None:
    """2 for wrong usage, 3 for a prefix without an active key."""
    with pytest.raises(CommandError) as usage:
        call_command("create_api_key", "x", "--scopes", "write")
    with pytest.raises(CommandError) as absent:
        call_command("create_api_key", "--revoke", "nonesuch", "--reason", "a test")
    assert (usage.value.returncode, absent.value.returncode) == (2, 3)


@pytest.mark.django_db(transaction=True)
def test_sweep_tasks_repairs_reports_and_yields() -> None:
    """A lost task is requeued (0), a missing webhook is an error (1), a running sweep gives 3."""
    task = factories.make_task("processing")
    type(task).objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)
    out = StringIO()
    call_command("sweep_tasks", "--reason", "a test", stdout=out)
    assert out.getvalue().startswith("1 lease had expired, 0 tasks had run out of time, 1 ticket")
    ended = factories.make_task("completed", callback_url="https://receiver.example.org/x")
    factories.make_event(subject=str(ended.pk), scope=ended.project_id)
    with pytest.raises(CommandError) as missing:
        call_command("sweep_tasks", "--reason", "a test")
    assert missing.value.returncode == 1
    with sweep._alone(), pytest.raises(CommandError) as busy:
        call_command("sweep_tasks", "--reason", "a test")
    assert busy.value.returncode == 3
    assert connection.is_usable()


def test_progress_is_plain_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log gets no bar: lines from time to time, and none for short work."""
    with progress("pruning", 3) as bar:
        bar.moved(1)
        bar._said_at -= 60
        bar.moved(2)
        bar.moved(3)
    assert capsys.readouterr().err == "pruning: 2 of 3\n"
