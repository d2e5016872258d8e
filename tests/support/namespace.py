"""Which addresses are dialled, in a network namespace where every address is this machine's own?

A program for a fresh network namespace in which everything is local: it listens on every address,
answers every look-up by name, and prints as JSON what it saw: how many connections each address got
and how many the kernel saw begin. Nothing of it reaches another machine.

``deliver`` runs ``manage.py deliver_webhooks`` until stdin closes. ``corpus`` sends one request to
each URL of the published cases, and some to a name whose address changes with every look-up.
``reach`` sends to names with some dead addresses. ``follow`` keeps sending to a name that moves,
and to one that the operator denies meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

from tests import ROOT
from tests.support.nameserver import ABSENT, BROKEN, SILENT, Nameserver

PORTS = (80, 443, 8080, 8443, 65535)
ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 2\r\n%b\r\nok"
PUBLIC, INNER = "8.8.8.8", "10.0.0.5"
PUBLIC_6, ELSEWHERE = "2606:4700::1111", "93.184.215.14"
NAT64, NAT64_INNER = "64:ff9b::808:808", "64:ff9b::a00:5"
# Packets to these are never answered; and a network to which the kernel has no route.
DEAD_6, DEAD_4, NO_WAY_6 = "2620:fe::9", "9.9.9.9", "2a01:7e00::1"
CASES = ROOT / "tests/vectors" / "ssrf_cases.json"
# The nightly run sets REBINDINGS=10000.
REBINDINGS = int(os.environ.get("REBINDINGS", "200"))


REACH = {
    "dead-six": [DEAD_6, PUBLIC],
    "dead-four": [DEAD_4, PUBLIC_6],
    "most-dead": ["2620:fe::a", DEAD_6, "9.9.9.10", DEAD_4, PUBLIC],
    "no-way-six": [NO_WAY_6, PUBLIC],
    "only-six": [PUBLIC_6],
    "nat64": [NAT64],
    "dns64": [NAT64, PUBLIC],
    "inner-nat64": [NAT64_INNER],
    "mixed-nat64": [NAT64, NAT64_INNER],
    "all-dead": [DEAD_6, DEAD_4],
}


def turning() -> Callable[[], list[str]]:
    """Return a resolver that answers with a public and a private address in turn."""
    turns: Iterator[list[str]] = cycle([[PUBLIC], [INNER]])
    return lambda: next(turns)


NAMES: dict[str, Any] = {
    "public.example.net": [PUBLIC],
    "inner.example.net": [INNER],
    "mixed.example.net": [PUBLIC, INNER],
    "six.example.net": ["fd00::5"],
    "absent.example.net": ABSENT,
    "broken.example.net": BROKEN,
    "turning.example.net": turning(),
    **{f"{name}.example.net": addresses for name, addresses in REACH.items()},
    "moving.example.net": [PUBLIC],
    "denied.example.net": [PUBLIC],
    **{f"silent{number}.example.net": SILENT for number in range(100)},
}


def listen(accepted: Counter[str]) -> None:
    """Answer every connection; count it by the address that was dialled."""
    for port in PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=_serve, args=[listener, accepted], daemon=True).start()


def _serve(listener: socket.socket, accepted: Counter[str]) -> None:
    while True:
        connection, _ = listener.accept()
        accepted[connection.getsockname()[0].removeprefix("::ffff:")] += 1
        threading.Thread(target=_answer, args=[connection], daemon=True).start()


def _answer(connection: socket.socket) -> None:
    """Answer one request, or, below /keep, each that comes over this connection."""
    is_kept = True
    with connection, suppress(ConnectionError):
        while is_kept and (request := connection.recv(65536)):
            is_kept = request.startswith(b"POST /keep")
            status = b"500 No" if request.startswith(b"POST /fail") else b"200 OK"
            connection.sendall(ANSWER % (status, b"" if is_kept else b"Connection: close\r\n"))


def active_opens() -> int:
    """Return how many TCP connections this namespace began, as its kernel counts."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    names, values = (line for line in lines if line[0] == "Tcp:")
    return int(values[names.index("ActiveOpens")])


def deliver(nameserver: Nameserver) -> dict[str, Any]:
    """Run a delivery process until stdin closes."""
    command = [sys.executable, "manage.py", "deliver_webhooks"]
    delivery = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    sys.stdin.read()
    stopped_at = time.monotonic()
    delivery.send_signal(signal.SIGTERM)
    exit_code = delivery.wait(20)
    return {"exit_code": exit_code, "stop_seconds": time.monotonic() - stopped_at}


def corpus(nameserver: Nameserver) -> dict[str, Any]:
    """Send to every case under its policy, then to the name whose address alternates."""
    import django

    django.setup()
    cases = json.loads(CASES.read_text())
    return asyncio.run(_send_all(nameserver, cases))


async def _send_all(nameserver: Nameserver, cases: list[dict[str, Any]]) -> dict[str, Any]:
    codes = {}
    for case in cases:
        nameserver.names.update(case.get("dns", {}))
        is_http_allowed = case.get("profile") == "allow_http"
        (codes[case["id"]],) = await _send(case["url"], 1, is_http_allowed)
    before = active_opens()
    turned = await _send("http://turning.example.net/", REBINDINGS, True)
    return {"codes": codes, "began": before, "turned": turned}


async def _send(url: str, times: int, is_http_allowed: bool) -> list[str]:
    from django.test import override_settings

    from webhooks_app.transport.client import Transport

    with override_settings(WEBHOOKS={"REQUIRE_HTTPS": not is_http_allowed}):
        async with Transport() as transport:
            return [
                str((await transport.send(url, {}, b"{}", timeout=5)).error_code)
                for _ in range(times)
            ]


def reach(nameserver: Nameserver) -> dict[str, Any]:
    """Send once to each name of REACH; return the outcome, the address used, and the seconds."""
    import django

    django.setup()
    return asyncio.run(_reach())


async def _reach() -> dict[str, Any]:
    from django.test import override_settings

    from webhooks_app.transport.client import Transport

    seen: dict[str, Any] = {}
    with override_settings(WEBHOOKS={"REQUIRE_HTTPS": False}):
        for name in REACH:
            async with Transport() as transport:
                began = time.monotonic()
                url = f"http://{name}.example.net:8080/"
                result = await transport.send(url, {}, b"{}", timeout=2.5)
                seconds = time.monotonic() - began
            seen[name] = [result.error_code, result.remote_address, seconds]
    await asyncio.sleep(0)
    return {"reached": seen, "half_open": half_open()}


def half_open() -> int:
    """Return how many connects of this namespace are still under way (SYN_SENT)."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    return sum(line.split()[3] == "02" for table in tables for line in table)


def follow(nameserver: Nameserver) -> dict[str, Any]:
    """Keep sending to a name that moves, and to one whose address is denied meanwhile."""
    import django

    django.setup()
    return asyncio.run(_follow(nameserver))


async def _follow(nameserver: Nameserver) -> dict[str, Any]:
    """Return for both how the last request ended and how long, in seconds, the change took.

    The policy of a running process changes in tests only; the setting is the same for both.
    """
    from django.test import override_settings

    from webhooks_app.transport.client import Transport

    policy = {"REQUIRE_HTTPS": False, "CONNECTION_MAX_AGE_SECONDS": 1.0}
    denying = {**policy, "DENY_NETWORKS": [PUBLIC]}
    seen: dict[str, Any] = {}
    with override_settings(WEBHOOKS=policy):
        async with Transport() as transport:

            async def send(name: str) -> tuple[str, str, bool]:
                url = f"http://{name}.example.net:8080/keep"
                result = await transport.send(url, {}, b"{}", timeout=4)
                is_reused = [*result.phases] == ["first_byte_ms"]
                return str(result.error_code), result.remote_address, is_reused

            for name in ("moving", "denied"):
                before = [await send(name), await send(name)]
                began, last = time.monotonic(), before[-1]
                nameserver.names["moving.example.net"] = [ELSEWHERE]
                with override_settings(WEBHOOKS=denying if name == "denied" else policy):
                    while last[:2] == before[0][:2] and time.monotonic() - began < 10:
                        await asyncio.sleep(0.05)
                        last = await send(name)
                seen[name] = [before, last, time.monotonic() - began]
    return seen


MODES = {"deliver": deliver, "corpus": corpus, "reach": reach, "follow": follow}


def main() -> None:
    """Run one of the four programs and print what was seen."""
    accepted: Counter[str] = Counter()
    listen(accepted)
    nameserver = Nameserver(NAMES, default=["93.184.215.14"])
    seen = MODES[sys.argv[1]](nameserver)
    print(json.dumps({"began": active_opens(), **seen, "accepted": accepted}))


if __name__ == "__main__":
    main()
