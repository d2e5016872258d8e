"""Who uses the service while it is being broken? Clients that retry until they get an answer."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from tests.chaos.stage import TASK_TYPE
from tests.e2e.conftest import Service

PATIENCE_SECONDS = 60.0


class Load:
    """Threads that submit tasks at a steady pace; a context manager.

    A submit is repeated with the same Idempotency-Key until it is answered, as the guide advises.
    ``refused`` lists answers that no client should get (5xx while the web server answers).
    """

    def __init__(
        self, service: Service, scope: str, url: str, *, threads: int = 3, pause: float = 0.1
    ) -> None:
        self._service = service
        self._scope = scope
        self._url = url
        self._pause = pause
        self._key = str(service.details["api_key"])
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.accepted: list[str] = []
        self.latencies: list[float] = []
        self.refused: list[int] = []
        self.lost: list[str] = []
        self.last_accepted_at = 0.0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS + 10)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.submit()
            self._stop.wait(self._pause)

    def submit(self) -> None:
        """Submit one task, again and again until there is an answer."""
        key = uuid.uuid4().hex
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            began = time.monotonic()
            answer = self._try(key)
            if answer is not None and answer[0] in (200, 201):
                with self._lock:
                    self.latencies.append(time.monotonic() - began)
                    self.accepted.append(str(answer[1]["task_id"]))
                    self.last_accepted_at = time.monotonic()
                return
            if answer is not None:
                self.refused.append(answer[0])
            time.sleep(0.1)
        self.lost.append(key)

    def _try(self, key: str) -> tuple[int, Any] | None:
        body = {
            "project_id": self._scope,
            "task_type": TASK_TYPE,
            "task_data": {"prompt": "A lighthouse"},
            "callback_url": self._url,
            "retry_policy": [0.2, 0.5, 1, 2, 4],
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=10)
        headers = {
            "X-API-Key": self._key,
            "Idempotency-Key": key,
            "Content-Type": "application/json",
        }
        try:
            connection.request("POST", "/api/v1/tasks/submit", json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
