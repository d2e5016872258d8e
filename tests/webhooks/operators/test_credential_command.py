"""Does the command keep secrets off the command line, and do keys and checks cover credentials?"""

from __future__ import annotations

import io
import re
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core import checks
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from tasks_app.models import ApiKey, Project
from tests.support import certificates, factories
from tests.support.factories import PROJECT
from tests.support.receiver import Receiver
from webhooks_app import metrics
from webhooks_app.credentials import store, unseal
from webhooks_app.delivery import housekeeping
from webhooks_app.models import Credential, OperatorAction
from webhooks_app.signing.store import UnreadableSecret

pytestmark = pytest.mark.django_db
ORIGIN = "https://receiver.example.org"
WHY = ("--reason", "a test")


def run(*words: str) -> str:
    out = StringIO()
    call_command("credential", *words, stdout=out)
    return out.getvalue()


def refused(*words: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as error:
        run(*words)
    return error.value.returncode, str(error.value)


def test_each_kind_is_added_from_files_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret comes from a file or standard input, whole and without its last line end."""
    where = ("--origin", ORIGIN)
    file = tmp_path / "secret"
    file.write_text(" pass word \n")
    run("add", PROJECT, "b", "basic", "--username", "us", "--secret-file", str(file), *where, *WHY)
    stdin = io.TextIOWrapper(io.BytesIO(b"token\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    run("add", PROJECT, "t", "bearer", "--secret-file", "-", *where, *WHY)
    file.write_text("X-A: 1\nX-B: two words\n")
    run("add", PROJECT, "h", "headers", "--secret-file", str(file), *where, *WHY)
    key, certificate, _ = certificates.files_for("client.example.net")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate)
    file.write_bytes(key)
    mtls = ("--certificate", str(chain), "--secret-file", str(file))
    run("add", PROJECT, "m", "client_certificate", *mtls, *where, *WHY)
    values = {row.name: unseal(row) for row in Credential.objects.all()}
    assert values["b"] == {"username": "us", "password": " pass word "}
    assert values["t"] == {"token": "token"}
    assert values["h"] == {"headers": {"X-A": "1", "X-B": "two words"}}
    assert values["m"]["private_key"] == key.decode()
    listed = run("list", PROJECT)
    assert f"{PROJECT}  b  basic  {ORIGIN}" in listed
    assert "ends 20" in listed
    assert "pass word" not in listed
    file.write_text("new")
    run("change", PROJECT, "b", "--secret-file", str(file), *WHY)
    assert unseal(Credential.objects.get(name="b"))["password"] == "new"
    run("delete", PROJECT, "t", *WHY)
    actions = OperatorAction.objects.order_by("id").values_list("action", "reason")
    assert [action for action, _ in actions][-2:] == ["credential.change", "credential.delete"]
    assert {reason for _, reason in actions} == {"a test"}


def test_wrong_usage_and_absence_have_codes_and_sentences(tmp_path: Path) -> None:
    """2 for wrong usage or a refusal, 3 for a name that is not there; nothing is a traceback."""
    where = ("--origin", ORIGIN)
    assert refused("add", PROJECT, "x", "bearer", *where)[1].startswith("Say why")
    assert refused("add", PROJECT, "x", "bearer", *where, *WHY) == (
        2,
        "--secret-file: A credential of the kind bearer needs it.",
    )
    assert refused("add", PROJECT, "x", "magic", *where, *WHY)[0] == 2
    assert refused("add", PROJECT, *WHY) == (2, "Name the project and the credential.")
    gone = str(tmp_path / "gone")
    assert (
        "cannot be read" in refused("add", PROJECT, "x", "bearer", "--secret-file", gone, *WHY)[1]
    )
    for action in ("change", "delete", "test"):
        assert refused(action, PROJECT, "x", *WHY)[0] == 3
    factories.make_credential()
    factories.make_endpoint(callback_auth="door")
    assert refused("delete", PROJECT, "door", *WHY) == (2, "It is used by 1 endpoint.")
    away = ("--origin", "https://thief.example.org")
    assert refused("change", PROJECT, "door", *away, *WHY)[1].startswith("--origin: Give token")


def test_a_test_send_says_what_came_back() -> None:
    """0 where it would count as delivered, 1 where not; a URL elsewhere is refused."""
    with Receiver([200, 500]) as receiver:
        factories.make_credential(origins=[receiver.url.removesuffix("/hook")])
        asked = ("test", PROJECT, "door", "--url", receiver.url)
        good, bad = run(*asked), StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("credential", *asked, stdout=bad)
    assert re.match(r"status 200 after \d+ ms: counts as delivered\n", good)
    assert ended.value.code == 1
    refusal = r"status 500 after \d+ ms: would not count as delivered\n"
    assert re.match(refusal, bad.getvalue())
    assert refused("test", PROJECT, "door", "--url", f"{ORIGIN}/x")[0] == 2


def test_keys_and_projects_take_a_default() -> None:
    """`create_api_key` and `project` refuse an unknown name and keep a known one."""
    words = {"create_api_key": ["k", "--project", PROJECT], "project": [PROJECT]}
    for command, first in words.items():
        with pytest.raises(CommandError) as error:
            call_command(command, *first, "--callback-auth", "door", *_why(command))
        assert error.value.returncode == 2
    factories.make_credential()
    for command, first in words.items():
        call_command(command, *first, "--callback-auth", "door", *_why(command), stdout=StringIO())
    assert (ApiKey.objects.get().callback_auth, Project.objects.get().callback_auth) == (
        "door",
        "door",
    )
    call_command("project", PROJECT, "--callback-auth", "none", *WHY, stdout=StringIO())
    assert not Project.objects.exists()


def _why(command: str) -> tuple[str, ...]:
    return WHY if command == "project" else ()


def test_a_change_of_keys_covers_credentials() -> None:
    """After `rotate_secret_keys` the new key alone reads them; without the key a check says so."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    with override_settings(WEBHOOKS={"SECRET_KEYS": [old]}):
        row = factories.make_credential()
    with override_settings(WEBHOOKS={"SECRET_KEYS": [new]}):
        with pytest.raises(UnreadableSecret):
            store.require_readable()
        found = checks.run_checks(tags=["database"], databases=["default"])
        assert [error.id for error in found] == ["webhooks.E004"]
    with override_settings(WEBHOOKS={"SECRET_KEYS": [new, old]}):
        call_command("rotate_secret_keys", *WHY, stdout=StringIO())
    with override_settings(WEBHOOKS={"SECRET_KEYS": [new]}):
        row.refresh_from_db()
        assert unseal(row) == {"token": "s3cr3t-of-the-tests"}
        assert row.version == 1, "its connections and tokens stay good"


def test_a_certificate_that_ends_is_told_beforehand(capsys: pytest.CaptureFixture[str]) -> None:
    """A check, a gauge and a daily log line name it thirty days before; a later one not yet."""
    now: Any = timezone.now()
    for days, name in ((29, "soon"), (31, "later")):
        row = factories.make_credential(name)
        Credential.objects.filter(pk=row.pk).update(expires_at=now + timedelta(days=days))
    (warning,) = checks.run_checks(tags=["database"], databases=["default"])
    assert (warning.id, "soon (" in warning.msg) == ("webhooks.W003", True)
    (gauge,) = (g for g in metrics.database_gauges() if "certificate" in g.name)
    ends = {sample.labels["credential"]: sample.value for sample in gauge.samples}
    assert ends["soon"] == pytest.approx((now + timedelta(days=29)).timestamp())
    assert ends.keys() == {"soon", "later"}
    housekeeping._warn_of_certificates()
    logged = capsys.readouterr().err
    assert "Client certificate ends soon" in logged
    assert "credential=soon" in logged
    assert "later" not in logged
