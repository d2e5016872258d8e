"""What does a delivery process dial, when every address of the world is this machine's own?

A program for a fresh network namespace: it listens on every address there is, runs
``manage.py deliver_webhooks`` until stdin closes, and prints as JSON how many connections each
address got and how many the kernel saw begin. Nothing of it reaches another machine.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

PORT = 8080
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def serve(listener: socket.socket, accepted: Counter[str]) -> None:
    """Answer every connection with 200 and count it under the address that it was made to."""
    while True:
        connection, _ = listener.accept()
        with connection:
            accepted[connection.getsockname()[0].removeprefix("::ffff:")] += 1
            connection.recv(65536)
            connection.sendall(ANSWER)


def active_opens() -> int:
    """Return how many TCP connections this namespace began, as its kernel counts."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    names, values = (line for line in lines if line[0] == "Tcp:")
    return int(values[names.index("ActiveOpens")])


def main() -> None:
    """Serve and deliver until stdin closes, then print what was seen."""
    accepted: Counter[str] = Counter()
    listener = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=serve, args=[listener, accepted], daemon=True).start()
    command = [sys.executable, "manage.py", "deliver_webhooks"]
    delivery = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    sys.stdin.read()
    delivery.send_signal(signal.SIGTERM)
    exit_code = delivery.wait(20)
    print(json.dumps({"accepted": accepted, "began": active_opens(), "exit_code": exit_code}))


if __name__ == "__main__":
    main()
