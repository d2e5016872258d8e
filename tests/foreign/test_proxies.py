"""Do access rules and media work as they should behind a real proxy?"""

from __future__ import annotations

import getpass
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.hashers import ScryptPasswordHasher

from moviesvc.admin_gate import AdminLoginThrottle
from tasks_app.media import serve
from tests.support import factories
from tests.support.ports import free_port
from tests.support.server import WebServer, no_renders
from tests.support.servers.programs import program
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]
OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
FORGED = "10.8.0.1"
SPELLINGS = ("X_Forwarded_For", "X-Forwarded_For", "X-Forwarded-For")
#: The operators' network, and one that nobody uses: on this machine, but not at 127.0.0.1.
OPERATORS = "127.64.0.0/10"
#: File names that a custom provider may choose, or another system may have stored.
ODD_NAMES = (
    *("100%.mp4", "100%25.mp4", "%2e%2e.mp4", "a?b=c.mp4", "a#b.mp4", "two  words .mp4"),
    *('it\'s "so".mp4', "back\\slash.mp4", "a;b,c&d+e.mp4", "größe 映画 🎬.mp4", "line\nbreak.mp4"),
    *(
        "..mp4",
        "....mp4",
        "a..b",
        "..%2fb.mp4",
        ".hidden",
        "~$@:!*.mp4",
        "\x7f\x01.mp4",
        "a.m?4",
        "@b",
    ),
)


@pytest.fixture(scope="module")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's media folder."""
    folder = tmp_path_factory.mktemp("proxied") / "media"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any, media_root: Path) -> Iterator[WebServer]:
    """The service behind one proxy, with networks that do not include 127.0.0.1."""
    environment = {
        "TRUSTED_PROXIES": "1",
        "ADMIN_ALLOW_NETWORKS": f"10.8.0.0/16,{OPERATORS}",
        "METRICS_ALLOW_NETWORKS": "10.8.0.0/16",
        "REFUSED_KEYS_PER_MINUTE": "3",
        "MEDIA_ROOT": str(media_root),
        "MEDIA_ACCEL_PREFIX": "/protected/",
    }
    with (
        django_db_blocker.unblock(),
        WebServer(processes=1, **environment, **no_renders()) as running,
    ):
        yield running


def example(language: str, places: dict[str, str]) -> str:
    """Return the operators' example for a proxy, with this test's paths and ports in it."""
    _, _, page = OPERATIONS.read_text().partition("## Put a proxy in front")
    (said,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    for shown, used in places.items():
        assert shown in said, f"the example says {shown}"
        said = said.replace(shown, used)
    return str(said)


@contextmanager
def proxy(server: WebServer, command: list[str], port: int) -> Iterator[WebServer]:
    """Run a proxy in the foreground; yield the service as seen through it."""
    seen = WebServer.__new__(WebServer)
    seen.port = port
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            return seen.call("GET", "/api/v1/health").status == 200
        except OSError:
            return False

    try:
        wait_until(answers, timeout=20, message=f"{command[0]} answers")
        yield seen
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def nginx(server: WebServer, media_root: Path, tmp_path: Path) -> Iterator[WebServer]:
    """Nginx as in docs/operations.md, but passing on header names with an underscore."""
    command, port = program("nginx"), free_port()
    places = {
        "127.0.0.1:8001": f"127.0.0.1:{server.port}",
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        "/var/lib/movies/media/": f"{media_root}/",
    }
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"user {getpass.getuser()}; daemon off; pid {tmp_path}/nginx.pid;"
        f" error_log {tmp_path}/error.log; events {{}}"
        f" http {{ access_log off; underscores_in_headers on;"
        f" {temporary} {example('nginx', places)} }}"
    )
    with proxy(server, [command, "-c", str(config), "-e", f"{tmp_path}/error.log"], port) as seen:
        yield seen


@pytest.fixture
def caddy(server: WebServer, tmp_path: Path) -> Iterator[WebServer]:
    """Caddy as in docs/operations.md; it passes on header names with an underscore."""
    command, port = program("caddy"), free_port()
    config = tmp_path / "Caddyfile"
    places = {"127.0.0.1:8001": f"127.0.0.1:{server.port}", "movies.example.com": f"http://:{port}"}
    ours = "{\n admin off\n auto_https off\n}\n"
    config.write_text(ours + example("caddyfile", places))
    run = [command, "run", "--config", str(config), "--adapter", "caddyfile"]
    with proxy(server, run, port) as seen:
        yield seen


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_no_client_names_its_own_address(name: str, request: pytest.FixtureRequest) -> None:
    """Neither spelling of X-Forwarded-For bypasses a network rule or a throttle."""
    seen: WebServer = request.getfixturevalue(name)
    for spelling in SPELLINGS:
        forged = {spelling: FORGED}
        assert seen.call("GET", "/admin/login/", headers=forged).status == 404, spelling
        assert seen.call("GET", "/metrics", headers=forged).status == 401, spelling
    statuses = [
        seen.call(
            "GET",
            "/api/v1/tasks",
            key="abcdefgh.abcdefghabcdefgh",
            headers={"X_Forwarded_For": f"10.8.0.{number}"},
        ).status
        for number in range(6)
    ]
    assert statuses[-1] == 429, statuses


class Person:
    """A client at the login page, with an address that no other test uses."""

    def __init__(self, seen: WebServer) -> None:
        self._seen = seen
        places = ip_network(OPERATORS)
        self._source = str(places[1 + secrets.randbelow(places.num_addresses - 2)])
        page = seen.call("GET", "/admin/login/", source=self._source)
        assert page.status == 200, page.content
        (self._token,) = re.findall(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.content)
        self._cookie = page.headers["Set-Cookie"].partition(";")[0]

    def log_in(self, password: str, address: str = FORGED) -> int:
        """Try a password with a forged address; return the status.

        200 is the page once more, 302 the way in.
        """
        form = {"username": "mara", "password": password, "csrfmiddlewaretoken": self._token}
        kind = "application/x-www-form-urlencoded"
        headers = dict.fromkeys(SPELLINGS, address)
        headers |= {"Content-Type": kind, "Cookie": self._cookie}
        body = urlencode(form).encode()
        answer = self._seen.call(
            "POST", "/admin/login/", body, headers=headers, source=self._source
        )
        return answer.status


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_guesses_count_for_who_makes_them(name: str, request: pytest.FixtureRequest) -> None:
    """Forged addresses in headers give no further guesses, and lock nobody else out."""
    staff = factories.make_staff("mara")
    # Of a kind that the server knows too, and cheap to check: its own takes half a second.
    staff.password = ScryptPasswordHasher().encode("password", "salt", n=2)
    staff.save(update_fields=["password"])
    seen: WebServer = request.getfixturevalue(name)
    guesser, tries = Person(seen), AdminLoginThrottle.TRIES_PER_MINUTE
    began, failed = time.monotonic(), 0
    while (status := guesser.log_in("guess", f"10.8.1.{failed}")) == 200 and failed < 5 * tries:
        failed += 1
    refilled = (time.monotonic() - began) * tries / 60
    assert status == 429, f"{failed} guesses were let through"
    assert tries <= failed <= tries + refilled
    assert Person(seen).log_in("password") == 302


@pytest.mark.parametrize(
    ("language", "option"), [("nginx", "keepalive_timeout"), ("caddyfile", "keepalive")]
)
def test_examples_give_up_idle_connections_first(language: str, option: str, settings: Any) -> None:
    """Each proxy's example closes idle connections before the service does, as documented."""
    (seconds,) = re.findall(rf"\b{option} (\d+)s\b", example(language, {}))
    assert int(seconds) < settings.HEAD_TIMEOUT_SECONDS


def test_media_through_nginx_are_what_they_were(
    nginx: WebServer, media_root: Path, settings: Any
) -> None:
    """Type, nosniff, CSP, ETag, ranges and disposition arrive; only the link gives access."""
    file = factories.make_media_file(size_bytes=1_000)
    place = media_root / file.path
    place.parent.mkdir(parents=True)
    content = bytes(range(250)) * 4
    place.write_bytes(content)
    path = serve.media_url(file).removeprefix(settings.PUBLIC_URL)
    whole = nginx.call("GET", path)
    assert (whole.status, whole.content) == (200, content)
    assert whole.headers["Content-Type"] == file.media_type
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert whole.headers["Content-Disposition"].startswith("inline; filename=")
    assert whole.headers["Cache-Control"] == "private, max-age=3600"
    tag = whole.headers["ETag"]

    def part(asked: str, condition: str = tag) -> tuple[int, bytes]:
        headers = {"Range": asked, "If-Range": condition}
        answer = nginx.call("GET", path, headers=headers)
        return answer.status, answer.content

    assert part("bytes=2-5") == (206, content[2:6])
    assert part("bytes=2-5", '"another"') == (200, content)
    assert part("bytes=5000-")[0] == 416
    assert nginx.call("GET", path, headers={"If-None-Match": tag}).status == 304
    assert nginx.call("GET", f"/protected/{file.path}").status == 404


@pytest.fixture
def alone(media_root: Path) -> Iterator[WebServer]:
    """The service without a proxy, which sends its media itself."""
    with WebServer(processes=1, MEDIA_ROOT=str(media_root), **no_renders()) as running:
        yield running


@pytest.mark.parametrize("name", ["nginx", "alone"])
def test_odd_names_are_sent_as_any_other(
    name: str, media_root: Path, settings: Any, request: pytest.FixtureRequest
) -> None:
    """Each file's link returns its own bytes, type and name, whole and in part."""
    seen: WebServer = request.getfixturevalue(name)
    task = factories.make_task("completed")
    for number, odd in enumerate(ODD_NAMES):
        kind, place = [("video/mp4", "inline"), ("text/x-thing", "attachment")][number % 2]
        path, content = f"results/{task.pk}/{number}/{odd}", f"{number}: {odd} ".encode() * 9
        fields = {"role": odd.rpartition(".")[0] or odd, "media_type": kind}
        file = factories.make_media_file(task, path=path, size_bytes=len(content), **fields)
        (media_root / path).parent.mkdir(parents=True)
        (media_root / path).write_bytes(content)
        link = serve.media_url(file).removeprefix(settings.PUBLIC_URL)
        whole = seen.call("GET", link)
        assert (whole.status, whole.content) == (200, content), odd
        assert whole.headers["Content-Type"] == kind, odd
        assert whole.headers["X-Content-Type-Options"] == "nosniff", odd
        assert whole.headers["ETag"], odd
        assert whole.headers.get_content_disposition() == place, odd
        assert whole.headers.get_filename() == f"{task.pk}-{odd}"
        part = seen.call("GET", link, headers={"Range": "bytes=2-5"})
        assert (part.status, part.content) == (206, content[2:6]), odd
        assert part.headers["Content-Range"] == f"bytes 2-5/{len(content)}", odd


def test_no_name_leads_out_of_the_media(nginx: WebServer, media_root: Path, settings: Any) -> None:
    """Neither a stored path nor a URL gives access to a file outside the media folder."""
    secret = media_root.parent / "secret.txt"
    secret.write_text("secret")
    ways = ["../secret.txt", "results/../../secret.txt", "./../secret.txt", "/../secret.txt"]
    ways += ["..%2fsecret.txt", "%2e%2e/secret.txt", "%252e%252e/secret.txt", "..\\secret.txt"]
    for path in (*ways, str(secret)):
        file = factories.make_media_file(path=path)
        link = serve.media_url(file).removeprefix(settings.PUBLIC_URL)
        assert nginx.call("GET", link).status == 404, path
    for path in (*ways, "..%00/secret.txt", "secret.txt"):
        answer = nginx.call("GET", f"/protected/{path}")
        assert answer.status in (400, 404), path
