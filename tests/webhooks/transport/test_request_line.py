"""Are the bytes of a callback URL the bytes that its receiver is asked for?"""

import asyncio

import pytest
from django.test import override_settings

from tests.support.receiver import Receiver
from tests.webhooks.egress.test_egress import StubResolver
from webhooks_app.egress import target_of
from webhooks_app.transport.client import Transport
from webhooks_app.transport.wire import render_post

PATHS = [
    "/",
    "/p?",
    "/p?&",
    "/p?a=1?",
    "/p?a=1&",
    "/p?=",
    "/p?a&b=&=c",
    "/?",
    "//",
    "//x//y/",
    "/a/../b",
    "/../a/./b/..",
    "/%2e%2e/a",
    "/%2f%2F%c3%a9%C3%A9",
    "/%41%7e~",
    "/a;b=c,d/e:f@g!$'()*+",
    "/p?x=%20+%2B%26&y=/?:@;",
    "/p?u=https://other.example.net/a?b=c",
    "/[a]?b[]=1",
    "/a%00b",
]
ALSO = {"?": "/?", "?a=1": "/?a=1", "": "/"}


@pytest.fixture(autouse=True)
def _policy():
    with override_settings(WEBHOOKS={"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}):
        yield


def test_receivers_are_asked_for_what_the_url_says():
    """Proves that no path or query is normalised, completed or shortened on its way."""
    asked = {path: path for path in PATHS} | ALSO
    resolver = StubResolver({"a.example.net": ["127.0.0.1"]})
    with Receiver([200]) as receiver:

        async def send():
            async with Transport(resolver=resolver) as transport:
                for rest in asked:
                    url = f"HTTP://A.Example.NET:{receiver.port}{rest}"
                    result = await transport.send(url, {}, b"{}", timeout=10)
                    assert result.status == 200, rest

        asyncio.run(send())
        heads = [request.raw.split(b"\r\n")[:2] for request in receiver.wait_for(len(asked))]
    host = f"Host: a.example.net:{receiver.port}".encode()
    assert heads == [[b"POST %b HTTP/1.1" % path.encode(), host] for path in asked.values()]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://Example.COM", "example.com"),
        ("https://example.com:443", "example.com"),
        ("http://example.com:80", "example.com"),
        ("https://example.com:80", "example.com:80"),
        ("http://example.com:443", "example.com:443"),
        ("https://my_service--1.example.com:8443", "my_service--1.example.com:8443"),
        ("https://8.8.8.8", "8.8.8.8"),
        ("https://[2606:4700::1111]", "[2606:4700::1111]"),
        ("https://[2606:4700::1111]:8443", "[2606:4700::1111]:8443"),
    ],
)
def test_host_header_names_the_port_unless_it_is_the_scheme_s(origin, host):
    """Proves that receivers that serve several hosts see the one that was given."""
    request = render_post(target_of(f"{origin}/p"), {}, b"")
    assert request.startswith(f"POST /p HTTP/1.1\r\nHost: {host}\r\n".encode())
