"""The commands: what they do, what they print, and what their exit codes mean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.utils import timezone

from tests.support import factories
from tests.support.factories import make_event, make_message
from webhooks_app.models import OperatorAction, ReplayJob, WebhookMessage
from webhooks_app.operators import replay
from webhooks_app.signing import store
from webhooks_app.signing.scheme import generate_secret, signature_header

pytestmark = pytest.mark.django_db
WHY = ("--reason", "an outage")


def run(capsys, *arguments):
    """Run a command; return its exit code and output."""
    code = 0
    try:
        call_command(*arguments)
    except SystemExit as ended:
        code = ended.code
    except CommandError as refused:
        return refused.returncode, str(refused)
    return code, capsys.readouterr().out


def advance_all():
    while replay.advance_running_jobs():
        pass


def rows():
    """Return the rows of a replay, without what differs between two runs."""
    return list(
        WebhookMessage.objects.order_by("id").values_list(
            "status", "retry_step", "interrupted_count", "attempt_count", "finished_at", "url"
        )
    )


def test_a_dry_run_counts_shows_and_changes_nothing(capsys):
    """Proves that --dry-run changes nothing and hides the values of a URL's query."""
    make_message("dead", url="https://receiver.example.org/x?token=hidden-value")
    before = rows()
    code, text = run(capsys, "replay_webhooks", "--dry-run")
    assert (code, rows(), ReplayJob.objects.count()) == (0, before, 0)
    assert "1 message matches" in text
    assert "hidden-value" not in text


def test_exit_codes_of_a_replay_are_honest(capsys):
    """Proves 3 for nothing found, 2 for refusals, 1 for not all delivered, 0 for all."""
    assert run(capsys, "replay_webhooks", "--yes", *WHY)[0] == 3
    message = make_message("dead")
    assert run(capsys, "replay_webhooks", "--since", "sometime", *WHY)[0] == 2
    assert run(capsys, "replay_webhooks", "--yes")[0] == 2
    assert run(capsys, "replay_webhooks", "--yes", *WHY, "--to", "https://10.0.0.1/")[0] == 2
    assert run(capsys, "replay_webhooks", "--yes", *WHY, "--rate", "-1")[0] == 2
    assert not ReplayJob.objects.exists()
    code, text = run(capsys, "replay_webhooks", "--yes", *WHY, "--wait", "--timeout", "0")
    assert code == 1
    assert "1 pending" in text
    message.refresh_from_db()
    assert message.status == "pending"


def test_times_are_todays_in_a_named_zone(capsys):
    """Proves that --since takes a time of day, and --zone says whose day it is."""
    asked = ("replay_webhooks", "--dry-run", "--zone", "Pacific/Kiritimati")
    local = timezone.now().astimezone(ZoneInfo("Pacific/Kiritimati"))
    begin = local.replace(hour=0, minute=0, second=0, microsecond=0)
    make_message("dead", created_at=begin + timedelta(seconds=1))
    make_message("dead", created_at=begin - timedelta(seconds=1))
    assert "1 message matches" in run(capsys, *asked, "--since", "00:00")[1]
    assert "2 messages match" in run(capsys, *asked, "--since", "yesterday 00:00")[1]
    assert "1 message matches" in run(capsys, *asked, "--until", "today")[1]
    code, text = run(capsys, *asked[:-1], "Pacific/Kiritimaty")
    assert (code, "Pacific/Kiritimati" in text) == (2, True)


def test_a_preview_says_whose_from_where_and_where_to(capsys):
    """Proves what a person reads before saying yes, and that two projects need a second yes."""
    make_message("dead", event=make_event(scope="film"))
    make_message("dead", event=make_event(scope="studio"), last_error_code="timeout")
    there = ("--to", "https://backup.example.org/in?token=hidden")
    code, text = run(capsys, "replay_webhooks", "--dry-run", *there)
    for line in (
        "projects  film (1), studio (1)",
        "errors    http_status (1), timeout (1)",
        "from      https://receiver.example.org (2)",
        "to        https://backup.example.org/in?token=***",
    ):
        assert line in text
    assert (code, "hidden" in text) == (0, False)
    code, text = run(capsys, "replay_webhooks", "--yes", *there, *WHY)
    assert (code, "--all-projects" in text, ReplayJob.objects.count()) == (2, True, 0)
    assert run(capsys, "replay_webhooks", "--yes", "--all-projects", *there, *WHY)[0] == 0
    assert ReplayJob.objects.get().total == 2


def test_dead_letters_are_set_aside_and_taken_back_by_command(capsys):
    """Proves both options, what they refuse, and that a reason is needed."""
    make_message("dead"), make_message("delivered")
    aside = ("replay_webhooks", "--set-aside", "--yes")
    assert run(capsys, *aside)[0] == 2
    assert run(capsys, *aside, "--status", "any", *WHY)[0] == 2
    assert "1 set aside" in run(capsys, *aside, *WHY)[1]
    assert run(capsys, *aside, *WHY)[0] == 3
    assert run(capsys, *aside, "--take-back", *WHY)[0] == 2
    back = run(capsys, "replay_webhooks", "--take-back", "--yes", *WHY)
    assert "1 are dead letters again" in back[1]
    assert WebhookMessage.objects.filter(status="dead").count() == 1


def test_a_replay_without_a_terminal_must_be_confirmed(capsys):
    """Proves that a script cannot replay by forgetting --yes."""
    make_message("dead")
    code, text = run(capsys, "replay_webhooks", *WHY)
    assert code == 2
    assert "--yes" in text
    assert not ReplayJob.objects.exists()


def test_waiting_ends_with_0_when_all_were_delivered(capsys, monkeypatch):
    """Proves that 0 with --wait means that every message has its answer."""
    make_message("dead")
    advance = replay.advance

    def advance_and_deliver(job_id):  # stands in for the engine, which is another process
        made_due = advance(job_id)
        WebhookMessage.objects.filter(replay_id=job_id).update(
            status="delivered", next_attempt_at=None, finished_at=timezone.now()
        )
        return made_due

    monkeypatch.setattr(replay, "advance", advance_and_deliver)
    code, text = run(capsys, "replay_webhooks", "--yes", "--wait", *WHY)
    assert code == 0
    assert "1 delivered" in text


def test_a_replay_is_cancelled_by_command_and_outlives_ctrl_c(capsys, monkeypatch):
    """Proves that an interrupted command says how to end its replay, and that this ends it."""
    for _ in range(3):
        make_message("dead")

    def give_up(*args):  # stands in for the operator, who has waited long enough
        raise KeyboardInterrupt

    monkeypatch.setattr(replay, "progress", give_up)
    options = ("--yes", "--wait", "--rate", "1", "--reason", "a try")
    code, text = run(capsys, "replay_webhooks", *options)
    job = ReplayJob.objects.get()
    assert (code, job.state, job.started_count) == (130, "running", 1)
    assert f"replay_webhooks --cancel {job.pk}" in text
    code, text = run(capsys, "replay_webhooks", "--cancel", str(job.pk), "--reason", "too fast")
    assert (code, ReplayJob.objects.get().state) == (0, "cancelled")
    assert "1 of 3 messages were made due" in text
    assert WebhookMessage.objects.filter(status="dead").count() == 2
    line = OperatorAction.objects.get(action="replay.cancel")
    assert (line.actor.split()[0], line.reason) == ("command", "too fast")
    assert run(capsys, "replay_webhooks", "--cancel", str(job.pk), *WHY)[0] == 3
    assert run(capsys, "replay_webhooks", "--cancel", str(uuid.uuid4()), *WHY)[0] == 3


def test_the_same_case_through_the_api_and_the_command_gives_the_same_rows(capsys):
    """Proves that API and command use one service, and record who and why in the same way."""
    key = factories.make_api_key()[1]

    def through_command():
        arguments = ("--host", "receiver.example.org", "--reason", "outage", "--yes")
        assert run(capsys, "replay_webhooks", *arguments)[0] == 0

    def through_api():
        body = {"filter": {"host": "receiver.example.org"}, "reason": "outage"}
        api = Client(headers={"x-api-key": key})
        answer = api.post("/api/v1/webhooks/replays", body, content_type="application/json")
        assert answer.status_code == 202

    seen = []
    for door in (through_command, through_api):
        for model in (WebhookMessage, ReplayJob, OperatorAction):
            model.objects.all().delete()
        make_message("dead", interrupted_count=2, attempt_count=4)
        make_message("dead", url="https://other.example.org/")
        make_message("delivered", event=make_event("task.failed"))
        door()
        advance_all()
        jobs = ReplayJob.objects.values_list(
            "filters", "target_url", "reason", "state", "total", "started_count", "skipped_count"
        )
        record = OperatorAction.objects.values_list("action", "reason")
        statuses = [(row[0], *row[1:4], row[4] is None, row[5]) for row in rows()]
        seen.append((statuses, list(jobs), list(record)))
    assert seen[0] == seen[1]
    assert [row[0] for row in seen[0][0]] == ["pending", "dead", "delivered"]


def test_simulated_retries_are_those_of_the_engine(capsys):
    """Proves that the printed schedule is the contract's, and the code tells the outcome."""
    code, text = run(capsys, "simulate_retries")
    assert code == 1
    times = [line.split("+")[1].split()[0] for line in text.splitlines()]
    assert [float(time) for time in times] == [0, 1, 3, 7]
    assert "dead: retries_exhausted" in text
    assert (
        "+    7200.000 s        2 h  200"
        in run(capsys, "simulate_retries", "--policy", "7200", "500", "200")[1]
    )
    code, text = run(capsys, "simulate_retries", "429@30", "200")
    assert code == 0
    assert "retry in 30.000 s" in text
    assert run(capsys, "simulate_retries", "--policy", "5,6", "timeout")[1].count("retry in") == 2
    assert (
        run(capsys, "simulate_retries", "--policy", "[]")[1]
        .splitlines()[0]
        .endswith("dead: retries_exhausted")
    )
    assert run(capsys, "simulate_retries", "--policy", "1,two")[0] == 2
    assert run(capsys, "simulate_retries", "429@nan")[0] == 2
    assert run(capsys, "simulate_retries", "--policy", "sometimes")[0] == 2
    assert run(capsys, "simulate_retries", "maybe")[0] == 2


SURE = ("--reason", "a test", "--yes")


def test_prune_counts_then_removes(capsys):
    """Proves that the command calls the retention service and reports its counts."""
    then = timezone.now() - timedelta(days=31)
    make_message("delivered", created_at=then, finished_at=then)
    assert "1 message would go" in run(capsys, "prune", "--dry-run")[1]
    assert WebhookMessage.objects.count() == 1
    assert run(capsys, "prune", "--days", "40", *SURE)[1].startswith("removed 0 messages")
    assert run(capsys, "prune", *SURE)[1].startswith("removed 1 message,")
    assert run(capsys, "prune", "--days", "-1")[0] == 2


def test_rotate_secret_keys_frees_the_old_key_or_says_why_not(capsys):
    """Proves that the command re-encrypts all, and fails without the old key."""
    from cryptography.fernet import Fernet

    secret = store.get_or_create("film")
    new = {"SECRET_KEYS": [Fernet.generate_key().decode()]}
    with override_settings(WEBHOOKS=new, SECRET_KEY="another"):
        assert run(capsys, "rotate_secret_keys", "--reason", "yearly")[0] == 1
    with override_settings(WEBHOOKS=new):
        assert run(capsys, "rotate_secret_keys", "--reason", "yearly")[1].startswith("1 secret")
    with override_settings(WEBHOOKS=new, SECRET_KEY="another"):
        assert store.current_secrets("film") == [secret]


@pytest.mark.parametrize(("is_right", "code"), [(True, 0), (False, 1)])
def test_listen_prints_and_verifies_over_a_real_socket(is_right, code):
    """Proves that listen tells a genuine webhook from a forged one, on screen and by its code."""
    secret = generate_secret()
    held = secret if is_right else generate_secret()
    arguments = ["listen", "--port", "0", "--secret", held, "--count", "1"]
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        url = process.stdout.readline().split()[-1]
        body = json.dumps({"status": "completed\x1b[2J"}).encode()
        now = int(timezone.now().timestamp())
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(now),
            "webhook-signature": signature_header([secret], "msg_1", now, body),
            "webhook-event": "task.completed",
        }
        request = urllib.request.Request(url, body, headers)
        assert urllib.request.urlopen(request, timeout=10).status == 204
        text = process.communicate(timeout=20)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert ("signature verified" if is_right else "DOES NOT VERIFY") in text
    assert "task.completed" in text
    assert "\x1b" not in text
