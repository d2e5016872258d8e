"""A whole client in one file: submit a task, receive its webhook, verify it, print it.

Start the service with `make run`, then in another terminal:

    python3 examples/webhook_example.py

Needs nothing but Python 3.11. To use it against a service elsewhere:

    SERVICE_URL=https://movies.example.com API_KEY=... PROJECT_ID=... \
    CALLBACK_URL=https://your-app.example.com/hook LISTEN_PORT=9000 \
    python3 examples/webhook_example.py
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

TOLERANCE_SECONDS = 300
RUN_FILE = Path(__file__).resolve().parent.parent / "var" / "run.json"


def verify(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Say whether a request came from the service and is fresh (Standard Webhooks, v1)."""
    # Anybody may send anything here, so headers may be missing or hold nonsense.
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers.get('webhook-id')}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    # During a rotation the header carries two signatures; one that fits is enough.
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, signature) for signature in given)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers 204 once a webhook is verified and kept, 401 to anything else."""

    secret = ""
    seen: dict[str, Any] = {}
    arrived = threading.Event()

    def do_POST(self) -> None:
        """Verify first, answer fast, work later; the id tells repeats apart."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_genuine = verify(self.secret, headers, body)
        if is_genuine:
            self.seen[headers["webhook-id"]] = json.loads(body)
        self.send_response(204 if is_genuine else 401)
        self.end_headers()
        if is_genuine:
            self.arrived.set()

    def log_message(self, *args: object) -> None:
        """Stay quiet; the example prints for itself."""


def call(service: dict[str, str], path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send one API request and return its JSON."""
    request = urllib.request.Request(
        f"{service['url']}/api/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-API-Key": service["api_key"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def find_service() -> dict[str, str]:
    """Return address and key: from the environment, else from a running `make run`."""
    if "SERVICE_URL" in os.environ:
        return {"url": os.environ["SERVICE_URL"], "api_key": os.environ["API_KEY"]}
    if not RUN_FILE.exists():
        sys.exit("The service does not run. Start it with `make run`, then try again.")
    return json.loads(RUN_FILE.read_text())


def main() -> None:
    """Submit, wait for the webhook, print what it says."""
    service = find_service()
    project = os.environ.get("PROJECT_ID", "test_project")
    Receiver.secret = call(service, f"webhooks/signing-secret?project_id={project}")["secret"]
    port = int(os.environ.get("LISTEN_PORT", "0"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    callback_url = os.environ.get("CALLBACK_URL", f"http://127.0.0.1:{server.server_port}/hook")
    task = call(
        service,
        "tasks/submit",
        {
            "project_id": project,
            "task_type": "image_generation",
            "callback_url": callback_url,
            "task_data": {"prompt": "Misty mountains at dusk, storm clouds"},
            "metadata": {"shot": "SC01/SH010"},
        },
    )
    print(f"submitted {task['task_id']}, about {task['estimated_duration']} s")
    if not Receiver.arrived.wait(timeout=300):
        sys.exit("No webhook within 5 minutes; look at /admin/ to see why.")
    for message_id, event in Receiver.seen.items():
        print(f"verified webhook {message_id}\n{json.dumps(event, indent=2)}")


if __name__ == "__main__":
    main()
