"""How do single processes run into their faults? As quick forks on one database.

The harness's side of `forks`: starts processes with fault points, makes leases expire, and reads
the ledger. Uses no code of the product.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from tests.chaos.history import History, Post
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TASK_TYPE = "image_generation"
SECRET_KEY = "a key that only the chaos runs use"
#: Time-outs of milliseconds instead of the product's seconds; `Stage.age` makes leases expire.
_ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
    "EMBEDDED": "off",
    "ENVIRONMENT": "development",
    "FAULT_INJECTION": "1",
    "LOG_FORMAT": "json",
    "SECRET_KEY": SECRET_KEY,
    "SWEEP_INTERVAL_SECONDS": "0.2",
    "TASK_LEASE_SECONDS": "0.9",
    "TASK_LOST_LIMIT": "100",
    "TASK_RETRY_WAITS": "0.05,0.1",
    "WEBHOOK_PROGRESS_INTERVAL": "0",
    "WEBHOOK_TIMEOUT_SECONDS": "1",
    "WEBHOOK_LEASE_MARGIN_SECONDS": "2.6",
}
DUE = """
SELECT (SELECT count(*) FROM tasks_app_task
        WHERE project_id = %(scope)s AND status IN ('queued', 'processing'))
  + (SELECT count(*) FROM webhooks_app_webhookmessage message
     JOIN webhooks_app_webhookevent event ON event.id = message.event_id
     WHERE event.scope = %(scope)s AND message.status = 'pending')
  + (SELECT count(*) FROM webhooks_app_webhookdelivery delivery
     JOIN webhooks_app_webhookmessage message ON message.id = delivery.message_id
     JOIN webhooks_app_webhookevent event ON event.id = message.event_id
     WHERE event.scope = %(scope)s AND delivery.outcome = 'pending')
"""
#: Makes leases expire now: only a process that extends its lease afterwards keeps it. Rows locked
#: by a frozen transaction are skipped.
_AGE = (
    "UPDATE tasks_app_task SET lease_expires_at = now() WHERE id IN (SELECT id FROM tasks_app_task"
    " WHERE lease_expires_at IS NOT NULL FOR UPDATE SKIP LOCKED)",
    "UPDATE webhooks_app_webhookmessage SET lease_expires_at = now() WHERE id IN (SELECT id FROM"
    " webhooks_app_webhookmessage WHERE lease_token IS NOT NULL FOR UPDATE SKIP LOCKED)",
)


@dataclass
class Victim:
    """One forked process."""

    stage: Stage
    pid: int

    def wait(self, seconds: float = 0.0) -> str:
        """Return "running", "frozen", "killed" or "ended <code>" within ``seconds``."""
        return str(self.stage.ask({"wait": self.pid, "seconds": seconds}))

    def thaw(self) -> None:
        """Continue a frozen process (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)
        wait_until(lambda: self.wait() != "frozen")

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait(5)

    def terminate(self, seconds: float = 20.0) -> str:
        """SIGTERM, and wait for the end."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(seconds)


class Stage:
    """A fork server on one database and Redis; a context manager.

    Args:
        var: a directory for logs, media and work.
        provider: options of the scripted provider (`tests.support.providers.StillProvider`).
        direct_url: the database, past any proxy, for what the harness itself asks.
        env: ``DATABASE_URL``, ``REDIS_URL`` and whatever else the processes are to see.
    """

    def __init__(self, var: Path, provider: dict[str, Any], *, direct_url: str, **env: str) -> None:
        self.var = var
        self._direct_url = direct_url
        given = {"provider": "tests.support.providers.StillProvider", "options": provider}
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WEBHOOK")},
            **_ENVIRONMENT,
            "DRAMATIQ_NAMESPACE": f"chaos-{uuid.uuid4().hex[:8]}",
            "GENERATION_PROVIDERS": json.dumps({TASK_TYPE: given}),
            "VAR_DIR": str(var),
            "PROMETHEUS_MULTIPROC_DIR": str(var / "metrics"),
            **env,
        }

    def __enter__(self) -> Stage:
        self.var.mkdir(parents=True, exist_ok=True)
        self.log = self.var / "stage.log"
        self.log.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.forks"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._read()
        self._connection = psycopg.connect(self._direct_url, autocommit=True)
        self.key = self._result("api_key")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._connection.close()
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def ask(self, order: dict[str, Any]) -> Any:
        """Send one order and return the answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fork server ended: {self.log.read_text()[-2000:]}")
        return json.loads(line)

    def fork(self, role: str, faults: str = "", skew: float = 0.0, **arguments: Any) -> Victim:
        """Start a process in one of the roles of `forks`."""
        order = {"role": role, "faults": faults, "skew_seconds": skew, "arguments": arguments}
        return Victim(self, int(self.ask({**order, "log": str(self.log)})))

    def _result(self, role: str, faults: str = "", seconds: float = 20.0, **arguments: Any) -> Any:
        """Fork, wait, and return what the process wrote; None if it died first."""
        with tempfile.TemporaryDirectory(dir=self.var) as place:
            out = Path(place) / "out"
            victim = self.fork(role, faults, out=str(out), **arguments)
            state = victim.wait(seconds)
            if state in ("running", "frozen"):
                victim.kill()
            return json.loads(out.read_text()) if out.exists() else None

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send an API request; return ``{"status", "body"}``, or None when its process died."""
        return self._result("call", method=method, path=path, body=body, key=self.key, **options)

    def submit(self, scope: str, url: str, faults: str = "", **fields: Any) -> str:
        """Submit like a careful client: repeat with the same key until there is a 201."""
        body = {
            "project_id": scope,
            "task_type": TASK_TYPE,
            "task_data": {"prompt": "A lighthouse"},
            "callback_url": url,
            "retry_policy": [0.05, 0.1, 0.2, 0.2],
            **fields,
        }
        key = uuid.uuid4().hex
        for attempt in range(5):
            used = faults if attempt == 0 else ""
            answer = self.call("POST", "tasks/submit", body, faults=used, idempotency_key=key)
            if answer and answer["status"] in (200, 201):
                return str(answer["body"]["task_id"])
            assert answer is None or answer["status"] >= 500, answer
        raise AssertionError(f"never accepted: {answer}")

    def query(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """Read rows, without a proxy in between."""
        return self._connection.execute(sql, values or None).fetchall()  # type: ignore[arg-type]

    def execute(self, sql: str) -> None:
        """Change rows, without a proxy in between."""
        self._connection.execute(sql)  # type: ignore[arg-type]

    def age(self, *, messages: bool = True) -> None:
        """Make every lease expire now, unless it is extended.

        A frozen engine measures its own leases and would not notice: wait for those.
        """
        for statement in _AGE if messages else _AGE[:1]:
            self._connection.execute(statement)  # type: ignore[arg-type]

    def has_met(self, fault: str) -> bool:
        """Say whether any process reached this fault."""
        return f"fault injected: {fault}\n" in self.log.read_text(errors="replace")

    def is_quiet(self, scope: str) -> bool:
        """Say whether nothing of a project is due, running or open."""
        return bool(self.query(DUE, {"scope": scope})[0][0] == 0)

    def settle(self, scope: str, seconds: float = 15.0) -> bool:
        """Wait until a project is quiet; False when time is up."""
        try:
            wait_until(lambda: self.is_quiet(scope), timeout=seconds)
        except AssertionError:
            return False
        return True

    def history(
        self, scope: str, accepted: Sequence[str], receiver: Receiver, **known: Any
    ) -> History:
        """Return the project's history for the ledger; its URLs contain the project's name."""
        answer = self.call("GET", f"webhooks/signing-secret?project_id={scope}")
        posts = [Post.of(r) for r in list(receiver.requests) if r.path.endswith(f"/{scope}")]
        history = History(accepted, posts, answer["body"]["secret"], **known)
        return history.read(lambda sql, values: self.query(sql, values), scope, 1.0)
