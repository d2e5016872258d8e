"""How do tests reach the API through the web server that production uses?

Granian with the service's own command line, on the test's database and Redis. Rows for it must be
committed, so such tests are ``django_db(transaction=True)``.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from moviesvc.run import service
from tasks_app.task_types import TASK_TYPES
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.content)


class WebServer:
    """Web processes of the service, started for this test."""

    def __init__(self, *, processes: int = 2, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**os.environ, "DATABASE_URL": _database_url(), **environment}
        self._environment |= {"PUBLIC_URL": self.url, "DJANGO_SETTINGS_MODULE": "moviesvc.settings"}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._command = service._web_command()
        self._set("--port", str(self.port))
        self._set("--workers", str(processes))
        self._set("--workers-kill-timeout", "1")

    def _set(self, option: str, value: str) -> None:
        self._command[self._command.index(option) + 1] = value

    def __enter__(self) -> WebServer:
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self._answers, timeout=30, message="the web server answers")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return self.call("GET", "/api/v1/health").status == 200
        except OSError:
            return False

    def log(self) -> str:
        """Return what the server printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Send one request over a new connection; ``body`` goes as JSON unless it is bytes.

        ``source`` is the address that the request comes from; all of 127.0.0.0/8 is this machine.
        """
        sent = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=20, source_address=(source, 0)
        )
        with closing(connection):
            connection.request(method, path, content, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def raw(self, request: bytes, *, timeout: float = 10.0) -> bytes:
        """Send bytes as they are; return all bytes until the server closes, or sends no more."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            connection.sendall(request)
            answer = b""
            try:
                while chunk := connection.recv(65_536):
                    answer += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            return answer


def _database_url() -> str:
    """Return the URL of the database that this test process uses."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    name = settings.DATABASES["default"]["NAME"]
    return urlunsplit(parts._replace(path=f"/{name}"))


def no_renders() -> dict[str, str]:
    """Return environment variables that name a provider which accepts tasks and renders none."""
    return {
        "GENERATION_PROVIDERS": json.dumps(
            dict.fromkeys(TASK_TYPES, "tests.support.painter.Painter")
        )
    }
