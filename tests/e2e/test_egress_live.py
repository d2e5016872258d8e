"""Does a delivery process under production's policy ever dial a denied address, for real?

In a network namespace of its own every address is local, so that the policy is tested end to end
with no allow-list and no traffic to anybody.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import namespace, processes
from tests.waiting import wait_until
from tests.webhooks.running import SCOPE, attempts_of, is_all_ended, publish, status_of
from webhooks_app.models import WebhookEvent
from webhooks_app.stored_secrets import get_or_create

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

PUBLIC = ["8.8.8.8", "2606:4700::1111"]
DENIED = ["10.0.0.5", "169.254.169.254", "192.168.1.1", "100.64.0.1", "172.16.0.9", "fd00::5"]
HOSTS = """127.0.0.1 localhost
8.8.8.8 public.example.net
10.0.0.5 inner.example.net
8.8.8.8 mixed.example.net
10.0.0.5 mixed.example.net
fd00::5 six.example.net
"""
ALLOWED_URLS = ["http://8.8.8.8:8080/", "http://[2606:4700::1111]:8080/"]
ALLOWED_URLS += ["http://public.example.net:8080/hook"]
DENIED_URLS = [f"http://{ip}:8080/" for ip in DENIED if ":" not in ip]
DENIED_URLS += ["http://127.0.0.1:8080/", "http://[::1]:8080/", "http://[fd00::5]:8080/"]
DENIED_URLS += ["http://[::ffff:127.0.0.1]:8080/", "http://[::ffff:8.8.8.8]:8080/"]
DENIED_URLS += ["http://localhost:8080/", "http://[64:ff9b::a00:5]:8080/"]
DENIED_URLS += [f"http://{name}.example.net:8080/" for name in ("inner", "mixed", "six")]


@pytest.fixture
def enter(tmp_path: Path) -> list[str]:
    """The command that runs another in a namespace where all of the addresses are local."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    addresses = [f"ip addr add {ip} dev lo" for ip in [*PUBLIC, *DENIED]]
    steps = ["ip link set lo up", *addresses, f"mount --bind {hosts} /etc/hosts", 'exec "$@"']
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *user, "--net", "--mount", "sh", "-ec", " && ".join(steps), "-"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=10)
    if tried.returncode:
        pytest.skip(f"this machine grants no network namespace: {tried.stderr.strip()}")
    return command


def test_no_denied_address_is_dialled_and_no_public_one_lost(enter: list[str]) -> None:
    """F13: of 18 targets the three public ones are called, and the kernel saw no other connect."""
    get_or_create(SCOPE)
    owed = {
        url: publish(url, subject=str(number), policy=[])
        for number, url in enumerate([*ALLOWED_URLS, *DENIED_URLS])
    }
    seen = deliver_in(enter)
    assert {url: status_of(event) for url, event in owed.items()} == {
        **dict.fromkeys(ALLOWED_URLS, "delivered"),
        **dict.fromkeys(DENIED_URLS, "dead"),
    }
    assert {error_code(owed[url]) for url in DENIED_URLS} == {"blocked_address"}
    assert seen["accepted"] == {"8.8.8.8": 2, "2606:4700::1111": 1}
    assert (seen["began"], seen["exit_code"]) == (3, 0)


def error_code(event: WebhookEvent) -> str:
    """Return what the event's only attempt failed with."""
    (attempt,) = attempts_of(event)
    assert attempt.remote_address == ""
    return attempt.error_code


def deliver_in(enter: list[str]) -> dict[str, object]:
    """Run a delivery process in the namespace until nothing is pending; return what was seen."""
    policy = {
        "WEBHOOK_ALLOW_NETWORKS": "",
        "WEBHOOK_ALLOW_HOSTS": "",
        "WEBHOOK_REQUIRE_HTTPS": "off",
    }
    program = subprocess.Popen(
        [*enter, sys.executable, "-m", namespace.__name__],
        cwd=processes.ROOT,
        env=processes.environment(**policy),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(is_all_ended, timeout=40)
        printed, _ = program.communicate("", timeout=30)
    finally:
        program.kill()
        program.wait(10)
    found: dict[str, object] = json.loads(printed)
    return found
