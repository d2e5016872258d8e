"""Which faults of Redis are told apart, and does the service take the relatives of Redis?"""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tasks_app import redis_gate
from tests.support import processes
from tests.support.servers import redis
from tests.support.waiting import wait_until


def why(url: str) -> redis_gate.Fault:
    """Return what is wrong with the Redis at a URL; at once or in time, whatever it is."""
    began = time.monotonic()
    client = redis_gate.connect(f"{url}?socket_timeout=0.25&socket_connect_timeout=0.25")
    with pytest.raises(redis_gate.FAILURES) as caught:
        client.ping()
    assert time.monotonic() - began < 1.0
    return redis_gate.fault_of(caught.value)


def test_valkey_is_as_good_as_redis() -> None:
    """A Valkey over TLS with an access list does all that the service asks of it."""
    with redis.prepared("valkey-server") as server:
        server.start()
        client = redis_gate.connect(server.url())
        assert client.set("rate:probe", "1", px=1000)
        assert client.exists(redis_gate.WORKERS, "rate:probe") == 1


@pytest.mark.parametrize("host", ["redis.invalid", "a..b"])
def test_a_host_name_that_cannot_be_looked_up_is_named(host: str) -> None:
    """A name that does not exist, and one that is none, are told from a server that is down."""
    assert why(f"redis://{host}:6379/0").code == "name_unknown"


def test_a_silent_name_server_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the look-up takes longer than a caller may wait, the call ends in time."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: released.wait(20) or [])
    try:
        assert why("redis://slow.example.net:6379/0").code == "timed_out"
    finally:
        released.set()


def test_plain_redis_on_a_tls_url_is_named() -> None:
    """A server that speaks no TLS at a rediss:// address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(100)
                    connection.sendall(b"-ERR unknown command\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"rediss://127.0.0.1:{listener.getsockname()[1]}/0"
        wait_until(lambda: why(url).code == "tls_failed")


@pytest.mark.django_db
def test_broker_url_is_refused_with_what_to_do() -> None:
    """What an operator configured for the tickets is not dropped in silence."""
    done = processes.run("manage.py", "check", BROKER_URL="amqp://user:secret@rabbit/")
    assert done.returncode != 0
    assert "BROKER_URL is set" in done.stderr
    assert "unset it" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "http://:hidden@host:6379/0",
        "redis://user:hid/den@host:6379/0",  # a slash that is not percent-encoded
        "redis://:hidden@host:port/0",
        "redis://:hidden@host:6379/0?db=first",
    ],
)
def test_redis_url_that_cannot_be_read_is_one_sentence(url: str) -> None:
    """An invalid REDIS_URL gives an error with the right form, without the password."""
    done = processes.run("manage.py", "check", REDIS_URL=url)
    assert done.returncode == 1
    assert "REDIS_URL cannot be read. It has the form redis://" in done.stderr
    assert "hid" not in done.stderr
    assert "Traceback" not in done.stderr
