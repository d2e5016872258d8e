"""Is everything that changes something on record, with who and why, and can it be asked for?"""

from __future__ import annotations

import ast
import getpass
import io
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.support.factories import make_api_key, make_message
from tests.test_layout import sources
from webhooks_app.models import OperatorAction, WebhookMessage
from webhooks_app.operators import record
from webhooks_app.signing import store

WHO = f"command {getpass.getuser()}"
#: Commands that change or delete something, and what each puts on record.
COMMANDS = {
    "prune --yes": "prune",
    "prune --only messages --yes": "prune",
    "prune_webhooks --yes": "prune",
    "sweep_tasks": "sweep",
    "rotate_secret_keys": "secret.reencrypt",
    "project film --asset-quota 1000": "project.change",
    "create_api_key --revoke {key}": "api_key.revoke",
    "project --key {other} --budget none": "api_key.budget",
    "remote_work --pause previz/nowhere": "",
    "replay_webhooks --yes": "",
    "adopt_storage --yes": "",
}


def refused(*words: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call_command(*words, stdout=io.StringIO())
    return caught.value


@pytest.mark.django_db(transaction=True)
def test_every_command_that_changes_something_says_who_and_why() -> None:
    """Without a reason, blanks included, nothing is done (2); with one it is on record."""
    store.get_or_create("film")
    (key, _), (other, _) = make_api_key("one"), make_api_key("other")
    for line, action in COMMANDS.items():
        words = line.format(key=key.prefix, other=other.prefix).split()
        for reason in ([], ["--reason", "  "]):
            error = refused(*words, *reason)
            assert error.returncode == 2, line
            assert "--reason" in str(error), line
        mine = OperatorAction.objects.filter(actor=WHO)
        assert not mine.exists(), line
        if action:
            call_command(*words, "--reason", "a test", stdout=io.StringIO())
            assert list(mine.values_list("action", "reason")) == [(action, "a test")], line
            mine.delete()
    made = io.StringIO()
    call_command("create_api_key", "Film team", stdout=made)
    assert OperatorAction.objects.get(actor=WHO).reason == "for Film team"
    assert refused("create_api_key", "Film team", "--reason", " ").returncode == 2


@pytest.mark.django_db(transaction=True)
def test_prune_asks_before_it_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal is asked with the counts, and only yes deletes; elsewhere it takes --yes."""
    then = timezone.now() - timedelta(days=31)
    make_message("delivered", created_at=then, finished_at=then)
    asked = ("prune", "--only", "messages", "--reason", "the disk is full")
    error = refused(*asked)
    assert (error.returncode, "--yes" in str(error)) == (2, True)

    questions: list[str] = []
    answers = iter(["", "n", "no", "yes"])

    def answer(question: str) -> str:
        questions.append(question)
        return next(answers)

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    for _ in range(3):
        assert (refused(*asked).returncode, WebhookMessage.objects.count()) == (2, 1)
    assert not OperatorAction.objects.exists()
    call_command(*asked, stdout=io.StringIO())
    assert not WebhookMessage.objects.exists()
    assert questions == ["Remove 1 message for good? [y/N] "] * 4
    noted = OperatorAction.objects.get()
    assert (noted.action, noted.target, noted.reason) == ("prune", "1 message", asked[-1])


def test_every_action_can_be_asked_for() -> None:
    """Each word that the code puts on record as it stands is one that filters know."""
    used = {word for text in sources().values() for word in _actions(ast.parse(text))}
    assert {"prune", "task.cancel", "destination.ping"} <= used
    assert used - set(record.known_actions()) == set()


def _actions(tree: ast.AST) -> list[str]:
    """Return the actions that a module records and writes out."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    noted = [call for call in calls if ast.unparse(call.func) in ("record.note", "record_action")]
    second = [call.args[1] for call in noted if len(call.args) > 1]
    return [node.value for node in second if isinstance(node, ast.Constant)]
