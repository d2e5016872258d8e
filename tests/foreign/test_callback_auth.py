"""Do gateways that nobody here wrote let our requests in, each with what it asks for?

Debian's nginx asks for a client certificate, a password or a token; behind it stand receivers in
Python, Node, PHP and Go, which verify the signature themselves.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from tests.support import certificates
from tests.support.ports import free_port
from tests.support.running import SCOPE, attempts_of, publish, running_engine, status_of
from tests.support.servers.programs import OAUTH, program
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.models import SigningSecret
from webhooks_app.operators import credentials
from webhooks_app.signing.scheme import generate_secret
from webhooks_app.signing.store import encrypt, get_or_create
from webhooks_app.transport import wire

pytestmark = pytest.mark.django_db(transaction=True)
FOLDER = Path(__file__).parent / "verifiers"
TOKEN, PASSWORD = "a-token-of-ours", "a pass word: ü"
#: Of every receiver of this module, as its owner has it.
SECRET = generate_secret()
NGINX = """
user <user>;
worker_processes 1;
error_log stderr;
pid <folder>/nginx.pid;
daemon off;
events {}
http {
  access_log off;
  client_body_temp_path <folder>/body;
  proxy_temp_path <folder>/proxy;
  fastcgi_temp_path <folder>/fastcgi;
  uwsgi_temp_path <folder>/uwsgi;
  scgi_temp_path <folder>/scgi;
  ssl_certificate <folder>/server.pem;
  ssl_certificate_key <folder>/server.pem;
  server {
    listen 127.0.0.1:<mtls> ssl;
    ssl_client_certificate <folder>/authority.pem;
    ssl_verify_client on;
    <places>
  }
  server {
    listen 127.0.0.1:<basic> ssl;
    auth_basic "ours";
    auth_basic_user_file <folder>/users;
    <places>
  }
  server {
    listen 127.0.0.1:<bearer> ssl;
    if ($http_authorization != "Bearer <token>") { return 401; }
    <places>
  }
}
"""
LANGUAGES = ("python", "node", "php", "go")


class Gateway:
    """The running nginx; ``ports`` by what it asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("mtls", "basic", "bearer")}
        self.backends: dict[str, int] = {}

    def url(self, asks: str, language: str) -> str:
        return f"{self.origin(asks)}/{language}/hook"

    def origin(self, asks: str) -> str:
        return f"https://{certificates.HOST}:{self.ports[asks]}"


def command(language: str, port: int, folder: Path) -> list[str]:
    """Return how to start a receiver; Go's is compiled first."""
    if language == "python":
        return [sys.executable, str(FOLDER / "receiver.py"), str(port)]
    if language == "node":
        return [program("node"), str(FOLDER / "receiver.js"), str(port)]
    if language == "php":
        return [program("php"), "-S", f"127.0.0.1:{port}", str(FOLDER / "receiver.php")]
    built = str(folder / "receiver")
    place = {**os.environ, "GOCACHE": str(folder / "go"), "GOFLAGS": "-mod=mod"}
    source = str(FOLDER / "receiver.go")
    subprocess.run([program("go"), "build", "-o", built, source], check=True, env=place, cwd=folder)
    return [built, str(port)]


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Nginx with the receivers behind it; those whose language is not here are left out."""
    folder = tmp_path_factory.mktemp("gateway")
    one = Gateway(folder)
    nginx = program("nginx")
    (folder / "server.pem").write_bytes(certificates.server_pem("valid", certificates.HOST))
    (folder / "authority.pem").write_bytes(certificates.authority_pem())
    hashed = subprocess.run(
        [program("openssl"), "passwd", "-apr1", "-stdin"],
        input=PASSWORD,
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "users").write_text(f"us:{hashed.stdout.strip()}\n")
    with ExitStack() as stack:

        def start(words: list[str], *ports: int) -> None:
            log = stack.enter_context((folder / "log").open("ab"))
            server = subprocess.Popen(
                words,
                env={"PATH": os.environ["PATH"], "SECRET": SECRET},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.callback(server.wait, 10)
            stack.callback(server.terminate)
            wait_until(lambda: all(map(listens, ports)), timeout=30, message=str(words))

        places = {}
        for language in LANGUAGES:
            try:
                port = free_port()
                start(command(language, port, folder), port)
                places[language] = port
            except pytest.skip.Exception:
                continue
        one.backends = places
        text = NGINX.replace(
            "<places>",
            "".join(
                f"location /{name}/ {{ proxy_pass http://127.0.0.1:{port}; }}"
                for name, port in places.items()
            ),
        )
        names = {"folder": folder, "user": getpass.getuser(), "token": TOKEN, **one.ports}
        for name, value in names.items():
            text = text.replace(f"<{name}>", str(value))
        (folder / "nginx.conf").write_text(text)
        words = [nginx, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
        start(words, *one.ports.values())
        yield one


@pytest.fixture
def trusted(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Gateway:
    """The gateway, whose authority this process trusts as it would the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(gateway.folder / "authority.pem"))
    own = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}
    settings.WEBHOOKS = {**django_settings.WEBHOOKS, **own}
    scope_secret()
    return gateway


def scope_secret() -> None:
    """Let the project sign with the secret that the receivers have."""
    get_or_create(SCOPE)
    SigningSecret.objects.filter(scope=SCOPE).update(ciphertext=encrypt(SECRET, SCOPE))


def given_for(asks: str) -> tuple[str, dict[str, str]]:
    key, certificate, _ = (part.decode() for part in certificates.files_for("us.example.net"))
    return {
        "mtls": ("client_certificate", {"certificate": certificate, "private_key": key}),
        "basic": ("basic", {"username": "us", "password": PASSWORD}),
        "bearer": ("bearer", {"token": TOKEN}),
    }[asks]


def engine_to(gateway: Gateway) -> Any:
    tls = certificates.trust(wire.new_tls_context())
    return running_engine(resolver=StubResolver({certificates.HOST: ["127.0.0.1"]}), tls=tls)


def test_receivers_in_four_languages_behind_nginx_are_reached(trusted: Gateway) -> None:
    """With its credential every message arrives, signed; without it nginx lets none through."""
    for asks in trusted.ports:
        kind, given = given_for(asks)
        credentials.create(SCOPE, asks, kind, [trusted.origin(asks)], given, actor="test")
    with engine_to(trusted):
        events = {
            (asks, language, auth): publish(
                trusted.url(asks, language),
                subject=f"{asks}-{language}-{auth}",
                policy=[],
                callback_auth=auth,
            )
            for asks in trusted.ports
            for language in trusted.backends
            for auth in (asks, "")
        }
        wait_until(lambda: all(status_of(e) != "pending" for e in events.values()), timeout=30)
    refused = {"mtls": 400, "basic": 401, "bearer": 401}
    for (asks, language, auth), event in events.items():
        (attempt,) = attempts_of(event)
        told = (asks, language, attempt.error)
        assert attempt.response_status == (204 if auth else refused[asks]), told
    assert set(trusted.backends) >= {"python"}


def test_the_receivers_verify(trusted: Gateway) -> None:
    """A forged request is 400 at each: that they answered 204 says that the signature was right."""
    for language, port in trusted.backends.items():
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": "1",
            "webhook-signature": "v1,AAAA",
        }
        url = f"http://127.0.0.1:{port}/hook"
        request = urllib.request.Request(url, b"{}", headers, method="POST")
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=10)
        with error.value as answer:
            assert answer.code == 400, language


# -- OAuth 2 ------------------------------------------------------------------------------------

CLIENT_SECRET = "s3cr3t-of-the-client/ü"


class OAuthServer:
    """A server of django-oauth-toolkit: it issues tokens, and asks for them at ``hook``."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"

    def ask(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.origin}/{path}", timeout=10) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def oauth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OAuthServer]:
    """The running server."""
    python = OAUTH.folder / "python"
    if not list(OAUTH.folder.parent.glob("lib/*/site-packages/oauth2_provider")):
        pytest.skip(f"no django-oauth-toolkit here; install it with: {OAUTH.how}")
    folder, port = tmp_path_factory.mktemp("oauth"), free_port()
    script = Path(__file__).parent / "oauth_server/server.py"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(python), str(script), str(port), str(folder)],
            env={"PATH": os.environ["PATH"], "CLIENT_SECRET": CLIENT_SECRET},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: listens(port), timeout=60, message=(folder / "log").read_text)
            yield OAuthServer(port)
        finally:
            server.terminate()
            server.wait(10)


@pytest.mark.parametrize("client_auth", ["basic", "body"])
def test_tokens_of_django_oauth_toolkit(oauth: OAuthServer, client_auth: str) -> None:
    """One token serves many messages; a revoked one is renewed at once; a fault is its own code."""
    oauth.ask("revoke")
    given = {
        "token_url": f"{oauth.origin}/o/token/",
        "client_id": "us",
        "client_secret": CLIENT_SECRET,
        "oauth_scope": "hooks",
        "client_auth": client_auth,
    }
    row = credentials.create(SCOPE, "login", "oauth2", [oauth.origin], given, actor="test")
    url = f"{oauth.origin}/hook"
    with running_engine():
        events = [
            publish(url, subject=f"{number}", policy=[], callback_auth="login")
            for number in range(10)
        ]
        wait_until(lambda: all(status_of(e) == "delivered" for e in events), timeout=20)
        assert oauth.ask("count") == "1"
        oauth.ask("revoke")
        event = publish(url, subject="revoked", policy=[], callback_auth="login")
        wait_until(lambda: status_of(event) == "delivered", timeout=10)
        assert [a.response_status for a in attempts_of(event)] == [401, 204]
        assert event.messages.get().retry_step == 0
        credentials.change(row, given={"client_secret": "wrong"}, actor="test")
        wait_until(lambda: is_told(url, client_auth), timeout=20)


_told: list[int] = []


def is_told(url: str, client_auth: str) -> bool:
    """Send one more message; say whether the token server's refusal is told by now."""
    _told.append(1)
    event = publish(url, subject=f"more-{len(_told)}", policy=[], callback_auth="login")
    wait_until(lambda: attempts_of(event) and attempts_of(event)[0].outcome != "pending")
    (attempt, *_) = attempts_of(event)
    text = "not sent: the token server answered 401 (invalid_client)"
    return (attempt.error_code, attempt.error) == ("credential", text)
