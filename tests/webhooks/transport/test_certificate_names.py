"""Does TLS succeed with exactly those hosts that a certificate is for, however they are written?"""

import asyncio

import pytest
import uvloop
from django.test import override_settings

from tests.support import certificates
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.transport.certificate_names import is_for
from webhooks_app.transport.client import Transport
from webhooks_app.transport.wire import tls_context


@pytest.fixture(autouse=True)
def _policy():
    with override_settings(WEBHOOKS={"ALLOW_NETWORKS": ["127.0.0.1/32"]}):
        yield


async def code_and_error(host, port):
    """Send to a host that lies on 127.0.0.1, with the context that production takes for it."""
    tls = certificates.trust(tls_context.__wrapped__("_" in host))
    resolver = StubResolver({host: ["127.0.0.1"]})
    async with Transport(resolver=resolver, tls=tls) as transport:
        url = f"https://{host}:{port}/hook"
        result = await transport.send(url, {}, b"{}", timeout=5)
    return result.error_code, result.error


def names_asked_for(context):
    """Note the server names that clients ask for in their handshakes."""
    seen = []
    context.sni_callback = lambda tls, name, context: seen.append(name)
    return seen


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(
    ("certified", "host"),
    [
        ("my_service.example.net", "my_service.example.net"),
        ("*.example.net", "my_service.example.net"),
        ("*.example.net", "_acme.example.net"),
        ("*.preview.example.net", "my--3000--owner.preview.example.net"),
        ("xn--ls8h.la", "xn--ls8h.la"),
        ("*.ab_c.example.net", "x.ab_c.example.net"),
    ],
)
def test_hosts_are_believed_that_their_certificate_covers(run, certified, host):
    """Proves for both event loops that odd names pass, and are what the receiver is asked for."""
    context = certificates.server_context(name=certified)
    seen = names_asked_for(context)
    with Receiver([200], tls=context) as receiver:
        assert run(code_and_error(host, receiver.port)) == ("", "")
    assert seen == [host]


@pytest.mark.parametrize("host", ["my_service.example.net", "receiver-1.example.net"])
@pytest.mark.parametrize("kind", ["wrong_name", "expired", "self_signed"])
def test_other_certificates_are_refused_before_anything_is_sent(kind, host):
    """Proves that a name with an underscore loosens no check."""
    name = "*.example.com" if kind == "wrong_name" else "*.example.net"
    with Receiver([200], tls=certificates.server_context(kind, name)) as receiver:
        code, error = asyncio.run(code_and_error(host, receiver.port))
        wait_until(lambda: not receiver._tasks)  # the receiver has read the refusals
    assert code == "tls"
    assert error.startswith("the certificate is not valid: ")
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("certified", "host", "verdict"),
    [
        ("a_b.example.net", "a_b.example.net", True),
        ("A_B.Example.NET", "a_b.example.net", True),
        ("*.example.net", "a_b.example.net", True),
        ("*.example.net", "a_b.c.example.net", False),
        ("*.example.net", "example.net", False),
        ("*.net", "a_b.net", False),
        ("*", "a_b", False),
        ("a*.example.net", "a_b.example.net", False),
        ("*.*.net", "a_b.example.net", False),
        ("a_b.example.net\0.example.com", "a_b.example.net", False),
        ("", "a_b.example.net", False),
    ],
)
def test_wildcard_stands_for_one_whole_label(certified, host, verdict):
    """Proves the rule of RFC 6125 that browsers follow, with two labels after the wildcard."""
    assert is_for({"subjectAltName": (("DNS", certified),)}, host) is verdict


def test_only_names_for_hosts_count():
    """Proves that neither the common name nor another kind of name makes a certificate fit."""
    common = {"subject": ((("commonName", "a_b.example.net"),),)}
    assert not is_for(common, "a_b.example.net")
    assert not is_for({"subjectAltName": (("URI", "a_b.example.net"),)}, "a_b.example.net")
