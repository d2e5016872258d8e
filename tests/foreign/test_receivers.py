"""Do deliveries work with others' servers, and are those servers' faults named?

nginx, Caddy, HAProxy, PHP, Python's http.server and OpenSSL, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from django.test import override_settings
from standardwebhooks import Webhook

from tests.support import certificates
from tests.support.servers.programs import program
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.retry import AttemptResult
from webhooks_app.signing.scheme import generate_secret, signature_header
from webhooks_app.transport import answer, wire
from webhooks_app.transport.client import Transport

BODY = b'{"task_id":"1"}'
NO_TLS = "the receiver does not speak TLS on this port; use http or another port in the URL"
#: A common mistake in a handler: a 204 that has a body.
CARELESS = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = sys.argv[2]
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()
        self.wfile.write(b"done")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
Start = Callable[..., int]


@pytest.fixture(autouse=True)
def _loopback_allowed() -> Iterator[None]:
    own = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}
    with override_settings(WEBHOOKS=own):
        yield


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A file with the key and the certificate of the tests' receiver."""
    path = tmp_path / "server.pem"
    path.write_bytes(b"".join(certificates.files_for(certificates.HOST)[:2]))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a server and returns its port; ``{port}`` stands in its arguments.

    A ``configuration`` becomes a file, whose path stands for ``{file}``.
    """
    with contextlib.ExitStack() as stack:

        def begin(*words: str, configuration: str = "", **values: Any) -> int:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            file = tmp_path / "configuration"
            names = {"port": port, "folder": tmp_path, "file": file, **values}
            for name, value in names.items():
                configuration = configuration.replace(f"<{name}>", str(value))
                words = tuple(word.replace(f"<{name}>", str(value)) for word in words)
            file.write_text(configuration)
            log = stack.enter_context((tmp_path / "server.log").open("wb"))
            own = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
            server = subprocess.Popen(
                words, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            stack.callback(server.wait, 10)
            stack.callback(server.terminate)
            wait_until(lambda: _listens(port), timeout=20)
            return port

        yield begin


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def send(
    port: int, *, scheme: str = "http", times: int = 1, headers: Any = None
) -> list[AttemptResult]:
    """POST over one transport, one request after the other."""
    resolver = StubResolver({certificates.HOST: ["127.0.0.1"]})
    tls = certificates.trust(wire.tls_context.__wrapped__())

    async def run() -> list[AttemptResult]:
        url = f"{scheme}://{certificates.HOST}:{port}/hook"
        async with Transport(resolver=resolver, tls=tls) as transport:
            return [await transport.send(url, headers or {}, BODY, 10) for _ in range(times)]

    return uvloop.run(run())


def assert_delivered(port: int, *, scheme: str = "http", status: int, is_reused: bool) -> None:
    """Three requests in a row have that status, over a kept connection or each over a new one."""
    results = send(port, scheme=scheme, times=3)
    assert [(result.status, result.error_code) for result in results] == [(status, "")] * 3
    are_reused = ["connect_ms" not in result.phases for result in results]
    assert are_reused == [False, is_reused, is_reused]
    if is_reused:  # a stray body may come late enough to be met by the next request
        assert not any(result.reconnected for result in results)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_python_server_that_sends_a_body_with_204(start: Start, version: str) -> None:
    """The 204's body gives a note, and is not read as the next answer."""
    port = start(sys.executable, "-c", CARELESS, "<port>", version)
    assert_delivered(port, status=204, is_reused=False)
    assert send(port)[0].error in ("", "note: bytes followed the end of the answer")


def test_php_that_sends_a_body_with_204(start: Start, tmp_path: Path) -> None:
    """PHP's own server, and a script as people write it; signed as ever."""
    script = tmp_path / "hook.php"
    script.write_text(
        "<?php file_put_contents(__DIR__.'/got.json', json_encode([getallheaders(),"
        " file_get_contents('php://input')])); http_response_code(204); echo 'done';"
    )
    port = start(program("php"), "-S", "127.0.0.1:<port>", str(script))
    assert_delivered(port, status=204, is_reused=False)
    secret, now = generate_secret(), int(time.time())
    signature = signature_header([secret], "msg_1", now, BODY)
    send(
        port,
        headers={
            "webhook-id": "msg_1",
            "webhook-timestamp": str(now),
            "webhook-signature": signature,
        },
    )
    headers, body = json.loads((tmp_path / "got.json").read_text())
    Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})


NGINX = """
daemon off; pid <folder>/pid; error_log <folder>/error.log; events {}
http { access_log off; client_body_temp_path <folder>/t; proxy_temp_path <folder>/t;
  fastcgi_temp_path <folder>/t; uwsgi_temp_path <folder>/t; scgi_temp_path <folder>/t;
  keepalive_requests <requests>; client_max_body_size 10;
  server { listen 127.0.0.1:<port> <how>; ssl_certificate <pem>; ssl_certificate_key <pem>;
    location / { client_max_body_size 1m; return <status> ok; }
    location /hook { client_max_body_size 1m; return <status>; } } }
"""


def nginx(start: Start, pem: Path, how: str = "", requests: int = 100, status: int = 200) -> int:
    """Start nginx; ``how`` it listens, and after how many requests it closes a connection."""
    words = (program("nginx"), "-e", "<folder>/error.log", "-c", "<file>")
    return start(
        *words, configuration=NGINX, how=how, requests=requests, status=status, pem=str(pem)
    )


def test_nginx_plain_and_over_tls(start: Start, pem: Path) -> None:
    """The usual case: one connection for all requests, also with TLS."""
    assert_delivered(nginx(start, pem), status=200, is_reused=True)
    assert_delivered(nginx(start, pem, "ssl"), scheme="https", status=200, is_reused=True)


def test_nginx_that_ends_connections_after_a_request(start: Start, pem: Path) -> None:
    """Each answer closes the connection: no request is lost by that."""
    assert_delivered(nginx(start, pem, requests=1, status=204), status=204, is_reused=False)


def test_nginx_that_expects_tls_or_http2_is_named(start: Start, pem: Path) -> None:
    """Recognised: its page for plain HTTP on a TLS port, HTTP/2 frames, its 400 to TLS."""
    (plain,) = send(nginx(start, pem, "ssl"))
    assert (plain.status, plain.error_code) == (400, "http_status")
    assert plain.error == f"status 400; {answer.SPEAKS_TLS}"
    (frames,) = send(nginx(start, pem, "http2"))
    assert (frames.status, frames.error_code, frames.error) == (None, "protocol", answer.ONLY_HTTP2)
    (refused,) = send(nginx(start, pem), scheme="https")
    assert (refused.error_code, refused.error) == ("tls", NO_TLS)
    assert max(result.duration_ms for result in (plain, frames, refused)) < 5_000


CADDY = """
{
  admin off
  auto_https disable_redirects
}
<scheme>://receiver.example.net:<port> {
  <tls>
  respond ok 201
}
"""


def test_caddy_plain_over_tls_and_the_wrong_way_round(start: Start, pem: Path) -> None:
    """Go's server: its answer to plain HTTP on a TLS port is recognised."""
    words = (program("caddy"), "run", "--config", "<file>", "--adapter", "caddyfile")
    tls = start(*words, configuration=CADDY, scheme="https", tls=f"tls {pem} {pem}")
    assert_delivered(tls, scheme="https", status=201, is_reused=True)
    (plain,) = send(tls)
    assert plain.error == f"status 400; {answer.SPEAKS_TLS}"
    port = start(*words, configuration=CADDY, scheme="http", tls="")
    assert_delivered(port, status=201, is_reused=True)
    (refused,) = send(port, scheme="https")
    assert (refused.error_code, refused.error) == ("tls", NO_TLS)


def test_receiver_that_takes_only_http2_in_the_handshake(start: Start, pem: Path) -> None:
    """It refuses HTTP/1.1 by an alert, which is named; plain HTTP there ends without an answer."""
    words = ("s_server", "-accept", "<port>", "-cert", "<pem>", "-alpn", "h2", "-quiet")
    port = start(program("openssl"), *words, pem=str(pem))
    (refused,) = send(port, scheme="https")
    assert (refused.error_code, refused.error) == ("tls", answer.ONLY_HTTP2)
    (plain,) = send(port)
    assert plain.error_code in ("reset", "protocol")
    assert "https" in plain.error


HAPROXY = """
defaults
  mode http
  timeout client 300ms
  timeout server 2s
  timeout connect 2s
  timeout http-keep-alive 300ms
frontend hook
  bind 127.0.0.1:<port>
  http-request return status 202
"""


def test_haproxy_that_ends_idle_connections(start: Start) -> None:
    """Its idle time-out is shorter than ours: the connection is closed, but no request is lost."""
    port = start(program("haproxy"), "-f", "<file>", configuration=HAPROXY)
    resolver = StubResolver({certificates.HOST: ["127.0.0.1"]})

    async def run() -> list[AttemptResult]:
        results = []
        async with Transport(resolver=resolver) as transport:
            for pause in (0.0, 0.0, 0.5, 0.0):
                await asyncio.sleep(pause)
                url = f"http://{certificates.HOST}:{port}/"
                results.append(await transport.send(url, {}, BODY, 10))
        return results

    results = uvloop.run(run())
    assert [result.status for result in results] == [202] * 4
    assert ["connect_ms" not in result.phases for result in results] == [False, True, False, True]
