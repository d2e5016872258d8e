"""What is dialled, when every address of the world is this machine's own?

A program for a fresh network namespace in which everything is local: it listens on every address
there is, answers every look-up by name, and prints as JSON what it saw: how many connections each
address got and how many the kernel saw begin. Nothing of it reaches another machine.

``deliver`` runs ``manage.py deliver_webhooks`` until stdin closes. ``corpus`` sends one request to
each URL of the published cases, and some to a name whose address changes with every look-up.
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
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.nameserver import ABSENT, BROKEN, SILENT, Nameserver

PORTS = (80, 443, 8080, 8443, 65535)
ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
PUBLIC, INNER = "8.8.8.8", "10.0.0.5"
CASES = Path(__file__).parent / "vectors" / "ssrf_cases.json"
# The nightly run sets REBINDINGS=10000.
REBINDINGS = int(os.environ.get("REBINDINGS", "200"))


def turning() -> Callable[[], list[str]]:
    """Return what answers with a public and a private address, turn by turn."""
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
    **{f"silent{number}.example.net": SILENT for number in range(100)},
}


def listen(accepted: Counter[str]) -> None:
    """Answer whoever connects to any address, counted under the address that was dialled."""
    for port in PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=_serve, args=[listener, accepted], daemon=True).start()


def _serve(listener: socket.socket, accepted: Counter[str]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            accepted[connection.getsockname()[0].removeprefix("::ffff:")] += 1
            is_to_fail = connection.recv(65536).startswith(b"POST /fail")
            connection.sendall(ANSWER % (b"500 No" if is_to_fail else b"200 OK"))


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
    """Send to every case under the policy that it is meant for, then to the name that turns."""
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

    from webhooks_app.transport import Transport

    with override_settings(WEBHOOKS={"REQUIRE_HTTPS": not is_http_allowed}):
        async with Transport() as transport:
            return [
                str((await transport.send(url, {}, b"{}", timeout=5)).error_code)
                for _ in range(times)
            ]


def main() -> None:
    """Do one of the two and print what was seen."""
    accepted: Counter[str] = Counter()
    listen(accepted)
    nameserver = Nameserver(NAMES, default=["93.184.215.14"])
    seen = {"deliver": deliver, "corpus": corpus}[sys.argv[1]](nameserver)
    print(json.dumps({"began": active_opens(), **seen, "accepted": accepted}))


if __name__ == "__main__":
    main()
