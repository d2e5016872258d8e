"""Does a delivery process under production's policy ever dial a denied address, for real?

In a network namespace of its own every address is local and every name is answered by a name
server of the test's, so that the policy is tested end to end with no allow-list, the system's own
resolver and no traffic to anybody.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import namespace, processes
from tests.support.running import SCOPE, attempts_of, is_all_ended, publish, status_of
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import CASES, CODES, oracle_allows
from webhooks_app.models import WebhookDelivery, WebhookEvent
from webhooks_app.signing.store import get_or_create

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

ALLOWED_URLS = ["http://8.8.8.8:8080/", "http://[2606:4700::1111]:8080/"]
ALLOWED_URLS += ["http://public.example.net:8080/hook"]
DENIED = ["10.0.0.5", "169.254.169.254", "192.168.1.1", "100.64.0.1", "172.16.0.9", "127.0.0.1"]
DENIED += ["[::1]", "[fd00::5]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]", "[64:ff9b::a00:5]"]
DENIED += ["localhost", "inner.example.net", "mixed.example.net", "six.example.net"]
DENIED_URLS = [f"http://{host}:8080/" for host in DENIED]
SILENT_NAMES = 80

# In this namespace every address of both families is local.
STEPS = ["ip link set lo up", "ip route add local 0.0.0.0/0 dev lo"]
STEPS += ["ip -6 route add local ::/0 dev lo"]
# Except these: an interface with nothing at its other end, and an address without a route.
STEPS += ["ip link add dead type veth peer name nobody", "ip link set nobody up"]
STEPS += ["ip link set dead arp off up", "ip route add 9.9.9.0/24 dev dead table local"]
STEPS += ["ip -6 route add 2620:fe::/48 dev dead table local"]
# With an address of its own on that side, the system's resolver names the dead ones first.
STEPS += ["ip -6 addr add 2620:fe::1/128 dev dead nodad"]
STEPS += ["ip -6 route add unreachable 2a01:7e00::/32 table local"]


@pytest.fixture
def enter(tmp_path: Path) -> list[str]:
    """The command that runs another one in a namespace where all addresses and names are local."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    steps = [*STEPS, f"mount --bind {resolver} /etc/resolv.conf", 'exec "$@"']
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *user, "--net", "--mount", "sh", "-ec", " && ".join(steps), "-"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=10)
    if tried.returncode:
        pytest.skip(f"this machine grants no network namespace: {tried.stderr.strip()}")
    return command


@contextmanager
def program(enter: list[str], mode: str) -> Iterator[dict[str, Any]]:
    """Run the program in the namespace; after the block, the dict holds what it saw."""
    seen: dict[str, Any] = {}
    policy = {
        "WEBHOOK_ALLOW_NETWORKS": "",
        "WEBHOOK_ALLOW_HOSTS": "",
        "WEBHOOK_REQUIRE_HTTPS": "off",
        "WEBHOOK_TIMEOUT_SECONDS": "3",
    }
    process = subprocess.Popen(
        [*enter, sys.executable, "-m", namespace.__name__, mode],
        cwd=processes.ROOT,
        env=processes.environment(**policy),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield seen
        printed, _ = process.communicate("", timeout=60)
        seen.update(json.loads(printed))
    finally:
        process.kill()
        process.wait(10)


def test_no_denied_address_is_dialled_and_no_public_one_lost(enter: list[str]) -> None:
    """F13: of 18 targets the three public ones are called, and the kernel saw no other connect."""
    get_or_create(SCOPE)
    owed = {
        url: publish(url, subject=str(number), policy=[])
        for number, url in enumerate([*ALLOWED_URLS, *DENIED_URLS])
    }
    with program(enter, "deliver") as seen:
        wait_until(is_all_ended, timeout=40)
    assert {url: status_of(event) for url, event in owed.items()} == {
        **dict.fromkeys(ALLOWED_URLS, "delivered"),
        **dict.fromkeys(DENIED_URLS, "dead"),
    }
    assert {failure(owed[url]) for url in DENIED_URLS} == {("blocked_address", "")}
    assert seen["accepted"] == {"8.8.8.8": 2, "2606:4700::1111": 1}
    assert (seen["began"], seen["exit_code"]) == (3, 0)


def failure(event: WebhookEvent) -> tuple[str, str]:
    """Return the event's last error code, and the address of that attempt."""
    attempt = attempts_of(event)[-1]
    return attempt.error_code, attempt.remote_address


def test_name_servers_that_fail_turn_or_say_nothing(enter: list[str]) -> None:
    """R16, R17: by the system's resolver: `dns` is tried again, a rebound name is blocked.

    80 names that nobody answers, of another project, hold as many look-ups for ten seconds; the
    others' look-ups do not wait for them, nor does the end of the process.
    """
    for number in range(SILENT_NAMES):
        url = f"http://silent{number}.example.net:8080/"
        publish(url, subject=f"silent {number}", scope="noisy", policy=[])
    names = ("absent", "broken", "turning", "public")
    owed = {
        name: publish(
            f"http://{name}.example.net:8080/{'fail' if name == 'turning' else ''}",
            subject=name,
            policy=[0.1],
        )
        for name in names
    }
    with program(enter, "deliver") as seen:
        wait_until(is_all_ended, timeout=40)
    assert {name: [a.error_code for a in attempts_of(owed[name])] for name in names} == {
        "absent": ["dns", "dns"],
        "broken": ["dns", "dns"],
        "turning": ["http_status", "blocked_address"],
        "public": [""],
    }
    assert seen["accepted"] == {"8.8.8.8": 2}
    silent = WebhookDelivery.objects.filter(message__event__scope="noisy")
    assert set(silent.values_list("error_code", flat=True)) == {"dns"}
    assert (seen["exit_code"], silent.count()) == (0, SILENT_NAMES)
    assert seen["stop_seconds"] < 5


def test_the_whole_corpus_is_judged_by_what_the_kernel_dials(enter: list[str]) -> None:
    """F13, F15: each allowed case is one connection, the others none; an alternating name, half."""
    with program(enter, "corpus") as seen:
        pass
    wrong = [
        (case["id"], case["url"][:80], seen["codes"][case["id"]])
        for case in CASES
        if (seen["codes"][case["id"]] in CODES) != (case["expect"] == "block")
    ]
    assert wrong == []
    assert seen["began"] == sum(case["expect"] == "allow" for case in CASES)
    assert [ip for ip in seen["accepted"] if not oracle_allows(ip)] == []
    half = namespace.REBINDINGS // 2
    assert seen["turned"] == ["", "blocked_address"] * half
    assert sum(seen["accepted"].values()) == seen["began"] + half


def test_dead_addresses_hold_nobody_up(enter: list[str]) -> None:
    """Whichever of a name's addresses is alive gets the request within a second or so.

    Of those that an IPv6 network's resolver makes up for IPv4 receivers, only public ones.
    """
    with program(enter, "reach") as seen:
        pass
    reached = {name: (code, ip) for name, (code, ip, _) in seen["reached"].items()}
    assert reached.pop("dns64") in [("", namespace.NAT64), ("", namespace.PUBLIC)]
    code, last_tried = reached.pop("all-dead")
    assert (code, last_tried in namespace.REACH["all-dead"]) == ("timeout", True)
    assert reached == {
        "dead-six": ("", namespace.PUBLIC),
        "dead-four": ("", namespace.PUBLIC_6),
        "most-dead": ("", namespace.PUBLIC),
        "no-way-six": ("", namespace.PUBLIC),
        "only-six": ("", namespace.PUBLIC_6),
        "nat64": ("", namespace.NAT64),
        "inner-nat64": ("blocked_address", ""),
        "mixed-nat64": ("blocked_address", ""),
    }
    slow = {name: seconds for name, (_, _, seconds) in seen["reached"].items() if seconds > 2}
    assert list(slow) == ["all-dead"]
    assert namespace.INNER not in seen["accepted"]
    assert namespace.NAT64_INNER not in seen["accepted"]
    assert seen["half_open"] == 0


def test_moved_name_and_changed_policy_are_followed(enter: list[str]) -> None:
    """R17, R18: a kept connection carries requests until its greatest age, here 1 s, no longer."""
    with program(enter, "follow") as seen:
        pass
    kept = [["", namespace.PUBLIC, False], ["", namespace.PUBLIC, True]]
    (before_move, moved, move_seconds), (before_denial, denied, denial_seconds) = (
        seen["moving"],
        seen["denied"],
    )
    assert before_move == before_denial == kept
    assert moved == ["", namespace.ELSEWHERE, False]
    assert denied == ["blocked_address", "", False]
    assert 0.5 < move_seconds < 3
    assert 0.5 < denial_seconds < 3
