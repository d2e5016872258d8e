"""Does the service run in production: all settings given, strict, and JSON in every log line?"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moviesvc.run import embedded
from tests.e2e.conftest import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e
HOST = "movies.example.com"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """PostgreSQL and Redis that somebody else runs."""
    place = tmp_path_factory.mktemp("servers")
    yield {"DATABASE_URL": embedded.postgres(place), "REDIS_URL": embedded.redis(place)}
    embedded.leave(place)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, str]) -> Iterator[Service]:
    """The whole service with the fewest settings that production needs, behind one proxy."""
    told = {"SECRET_KEY": "k" * 50, "PUBLIC_URL": f"https://{HOST}", "ALLOWED_HOSTS": HOST}
    told |= {"TRUSTED_PROXIES": "1", **servers}
    service = Service(tmp_path_factory.mktemp("production") / "var", **told)
    service.start()
    yield service
    service.stop()


def ask(service: Service, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Send a request as the proxy would; return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    sent = {"Host": HOST, "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), sent)
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def test_missing_settings_are_one_sentence(tmp_path: Path, servers: dict[str, str]) -> None:
    """An incomplete production configuration ends with one sentence on what is missing."""
    ended = Service(tmp_path / "var", **servers).command("run")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Production needs SECRET_KEY, PUBLIC_URL, ALLOWED_HOSTS.")
    assert "Traceback" not in ended.stderr
    ended = Service(tmp_path / "var", ENVIRONMENT="production").command("check")
    needed = "SECRET_KEY, PUBLIC_URL, ALLOWED_HOSTS, DATABASE_URL, REDIS_URL"
    assert ended.stderr.startswith(f"Production needs {needed}.")


def test_sqlite_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """A DATABASE_URL for a file is refused with a sentence that says what to use instead."""
    place = {"DATABASE_URL": "sqlite:///db.sqlite3", "ENVIRONMENT": "development"}
    ended = Service(tmp_path / "var", **place).command("check")
    assert ended.returncode == 1
    assert ended.stderr.startswith("SQLite cannot run this service")
    assert "Unset DATABASE_URL" in ended.stderr


def test_plain_http_is_for_probes_only(service: Service) -> None:
    """Over http, health is answered and everything else is sent to https."""
    assert ask(service, "GET", "/api/v1/health")[0] == 200
    status, headers, _ = ask(service, "GET", "/admin/")
    assert (status, headers["location"]) == (301, f"https://{HOST}/admin/")
    status, headers, _ = ask(service, "GET", "/admin/login/", X_Forwarded_Proto="https")
    assert status == 200
    assert "max-age" in headers["strict-transport-security"]


@pytest.mark.parametrize(
    "url", ["http://hooks.example.org/", "https://127.0.0.1/", "https://[::1]/"]
)
def test_callbacks_go_over_https_to_public_addresses_only(service: Service, url: str) -> None:
    """What development allows, production refuses at submit."""
    made = service.command("create_api_key", "check")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip().splitlines()[-1]
    body = {
        "project_id": "film",
        "task_type": "image_generation",
        "callback_url": url,
        "task_data": {"prompt": "A lighthouse"},
    }
    status, _, answer = ask(
        service, "POST", "/api/v1/tasks/submit", body, X_API_Key=key, X_Forwarded_Proto="https"
    )
    assert status == 422
    assert [error["pointer"] for error in json.loads(answer)["errors"]] == ["/callback_url"]


def test_every_log_line_is_json(service: Service) -> None:
    """All output of any process reaches the log collector as one JSON object per line."""
    ask(service, "GET", "/", Host="stranger.example.org")  # logged by Django itself, as an error
    log = service.var.parent / "service.log"
    wait_until(lambda: "DisallowedHost" in log.read_text())
    lines = log.read_text().splitlines()
    found = {(line["process"], line["event"]) for line in map(json.loads, lines)}
    assert ("run", f"AI Movie Task Service is ready at https://{HOST}") in found
    assert {"run", "web", "worker"} <= {process for process, _ in found}
    assert not [line for line in lines if "object at 0x" in line], "exceptions are rendered"
