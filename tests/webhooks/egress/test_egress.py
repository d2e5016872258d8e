"""The egress policy against the corpus, at the text and at the connection."""

import asyncio
import ipaddress
import json
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from django.test import override_settings

from tests import ROOT
from webhooks_app.egress import EgressDenied, address_allowed, check_url, origin_of, policy
from webhooks_app.transport.client import Transport

CASES = json.loads((ROOT / "tests/vectors" / "ssrf_cases.json").read_text())
PUBLIC = "93.184.215.14"

CODES = ("invalid_url", "blocked_address")
strict = override_settings(WEBHOOKS={})


@pytest.fixture(autouse=True)
def _strict():
    """Production's policy: https, no allow-list."""
    with strict:
        yield


class StubResolver(AbstractResolver):
    """Answers with the case's addresses, and with a public one for every other name."""

    def __init__(self, answers):
        self.answers = answers
        self.calls = []

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.calls.append(host)
        found = self.answers.get(host, [PUBLIC])
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=0, proto=0, flags=0)
            for ip in found
        ]

    async def close(self):
        pass


@pytest.fixture
def dialled(monkeypatch):
    """The addresses that any socket was told to connect to; nothing is really dialled."""
    seen = []

    def connect(sock, address):
        seen.append(address[0])
        raise ConnectionRefusedError(111, "refused by the test")

    async def sock_connect(self, sock, address):
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect)
    return seen


def policy_of(case):
    """Return the settings for a case."""
    is_http_allowed = case.get("profile") == "allow_http"
    return override_settings(WEBHOOKS={"REQUIRE_HTTPS": not is_http_allowed})


async def attempt_all(cases):
    """Send to each case's URL, past the validator, and return the result of each."""
    results = {}
    for case in cases:
        async with Transport(resolver=StubResolver(case.get("dns", {}))) as transport:
            with policy_of(case):
                results[case["id"]] = await transport.send(case["url"], {}, b"{}", timeout=2)
    return results


def test_corpus_is_judged_as_published(dialled):
    """Proves for every case that validator and connection together say what is expected."""
    results = asyncio.run(attempt_all(CASES))
    wrong = [
        (case["id"], case["url"][:80], result.error_code)
        for case in CASES
        if ((result := results[case["id"]]).error_code in CODES) != (case["expect"] == "block")
    ]
    assert wrong == []
    assert len(dialled) >= sum(case["expect"] == "allow" for case in CASES)
    assert [ip for ip in dialled if not oracle_allows(ip)] == []


def test_check_url_alone_refuses_everything_but_what_only_dns_can_tell():
    """Proves that all cases that need no look-up are refused by their text."""
    for case in CASES:
        with policy_of(case):
            try:
                check_url(case["url"])
                verdict = "allow"
            except EgressDenied as denied:
                verdict = "block" if denied.code in CODES else denied.code
        if case["category"] != "dns":
            assert verdict == case["expect"], case


async def dial_unchecked(case):
    """Send with only the grammar checked, as if the policy part of the validator were missing."""
    async with Transport(resolver=StubResolver(case.get("dns", {}))) as transport:
        return await transport.send(case["url"], {}, b"{}", timeout=2)


def test_connection_layer_alone_dials_nothing_denied(dialled, monkeypatch):
    """Proves that the connection check suffices if the validator accepts every parsable URL."""
    monkeypatch.setattr(policy, "_refusal", lambda origin, settings: "")

    async def run():
        for case in CASES:
            await dial_unchecked(case)

    asyncio.run(run())
    assert [ip for ip in dialled if not oracle_allows(ip)] == []


def oracle_allows(ip):
    """Check a final address independently: with integer masks from a second table."""
    address = ipaddress.ip_address(ip)
    n = int(address)
    if address.version == 6:
        return (
            n >> 125 == 1
            and n >> 105 != 0x20010000 >> 9
            and n >> 96 != 0x20010DB8
            and n >> 112 != 0x2002
            and n >> 108 != 0x3FFF0
        )
    a, b, c = n >> 24, n >> 16 & 255, n >> 8 & 255
    return not (
        a in (0, 10, 127)
        or a >= 224
        or (a == 100 and 64 <= b <= 127)
        or (a == 169 and b == 254)
        or (a == 172 and 16 <= b <= 31)
        or (a == 192 and b == 168)
        or (a, b, c) in {(192, 0, 0), (192, 0, 2), (192, 88, 99), (198, 51, 100), (203, 0, 113)}
        or (a == 198 and b in (18, 19))
        or ip == "168.63.129.16"
    )


@pytest.mark.parametrize("text", ["", ":", "1::2::3", "fe80::1%eth0", "2003::1%1", "127.1", "x"])
def test_unparsable_address_is_denied(text):
    """Proves that anything but a plain address is refused, not passed on."""
    assert not address_allowed(text)


def test_allow_list_opens_exactly_its_networks():
    """Proves that an allowed network does not allow a metadata address inside it."""
    with override_settings(
        WEBHOOKS={"ALLOW_NETWORKS": ["127.0.0.1/32", "169.254.0.0/16", "10.1.0.0/16"]}
    ):
        assert address_allowed("127.0.0.1")
        assert not address_allowed("127.0.0.2")
        assert not address_allowed("::ffff:127.0.0.1")
        assert address_allowed("10.1.2.3")
        assert address_allowed("169.254.1.1")
        assert not address_allowed("169.254.169.254")
    with override_settings(WEBHOOKS={"ALLOW_NETWORKS": ["169.254.169.254/32"]}):
        assert address_allowed("169.254.169.254")


def test_deny_list_is_stronger_than_everything():
    """Proves that an operator can keep webhooks away from own public addresses."""
    with override_settings(
        WEBHOOKS={"DENY_NETWORKS": ["8.8.8.0/24"], "ALLOW_NETWORKS": ["8.8.8.8/32"]}
    ):
        assert not address_allowed("8.8.8.8")
        assert address_allowed("8.8.4.4")


def test_listed_host_is_freed_from_name_and_port_rules_only():
    """Proves which rules ALLOW_HOSTS lifts, and that it allows no address."""
    with override_settings(WEBHOOKS={"ALLOW_HOSTS": ["localhost", "hooks.internal"]}):
        check_url("https://localhost:22/")
        check_url("https://HOOKS.internal/")
        assert not address_allowed("127.0.0.1")
        for url in ("http://localhost/", "https://other.internal/", "https://localhost./"):
            with pytest.raises(EgressDenied):
                check_url(url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://Example.COM/Path?q=1", ("https", "example.com", 443)),
        ("http://example.com:8080", ("http", "example.com", 8080)),
        ("https://[2001:4860:4860:0:0:0:0:8888]/", ("https", "2001:4860:4860::8888", 443)),
    ],
)
def test_origin_is_canonical(url, origin):
    """Proves that two spellings of an origin are one destination."""
    assert origin_of(url) == origin


def test_path_and_query_are_sent_as_given():
    """Proves that no parser rewrites dot segments, escapes or separators on the way."""
    target = policy.target_of("https://example.com/a/../b/%41?x=%20&y=;&z=a+b")
    assert target.url.raw_path_qs == "/a/../b/%41?x=%20&y=;&z=a+b"


@pytest.mark.parametrize("url", [None, 5, b"https://example.com/", ["x"]])
def test_what_is_no_text_is_refused(url):
    """Proves that a wrong type is refused without a crash."""
    with pytest.raises(EgressDenied):
        check_url(url)


def test_mixed_answer_is_refused_as_a_whole(dialled):
    """Proves that one private answer among public ones blocks the name."""
    resolver = StubResolver({"mixed.example.net": [PUBLIC, "10.0.0.5"]})

    async def run():
        async with Transport(resolver=resolver) as transport:
            return await transport.send("https://mixed.example.net/", {}, b"", timeout=2)

    result = asyncio.run(run())
    assert (result.error_code, result.remote_address) == ("blocked_address", "")
    assert "10.0.0.5" not in result.error
    assert dialled == []


def test_rebinding_name_never_reaches_a_private_address(dialled):
    """Proves over 200 attempts that the checked address is the one that is dialled."""

    class Flipping(StubResolver):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            self.answers = {host: ["127.0.0.1" if len(self.calls) % 2 else PUBLIC]}
            return await super().resolve(host, port, family)

    resolver = Flipping({})

    async def run():
        async with Transport(resolver=resolver) as transport:
            return [
                (await transport.send("https://rebind.example.net/", {}, b"", timeout=2)).error_code
                for _ in range(200)
            ]

    assert asyncio.run(run()) == ["connect", "blocked_address"] * 100
    assert len(resolver.calls) == 200
    assert set(dialled) == {PUBLIC}


def test_proxy_variables_of_the_environment_change_nothing(dialled, monkeypatch):
    """Proves that no environment variable sends a request to another host."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")

    async def run():
        async with Transport(resolver=StubResolver({})) as transport:
            return await transport.send("https://example.com/", {}, b"", timeout=2)

    assert asyncio.run(run()).error_code == "connect"
    assert dialled == [PUBLIC]


@pytest.mark.parametrize(
    "host",
    [
        "qa--mysite.netlify.app",
        "my--3000--owner.preview.csb.app",
        "xn--ls8h.la",  # an emoji, which IDNA 2008 forbids and browsers open
        "my_service.example.net",
        "_acme.example.net",
        "ab--cd.example.net",
        "a_.b-_c.example.net",
    ],
)
def test_names_that_resolvers_answer_for_are_read_in_one_way(host):
    """Proves that hyphens in a row, underscores and emoji names pass, as the name that was given.

    What is judged is what is dialled: the resolver is asked for that very name.
    """
    assert origin_of(f"https://{host}/hook").host == host
    check_url(f"https://{host}/hook")
    resolver = StubResolver({host: ["127.0.0.1"]})

    async def send():
        async with Transport(resolver=resolver) as transport:
            return await transport.send(f"https://{host}/hook", {}, b"{}", timeout=2)

    assert asyncio.run(send()).error_code == "blocked_address"
    assert resolver.calls == [host]


@pytest.mark.parametrize(
    "host",
    [
        "-a.example.net",
        "a-.example.net",
        "xn--.example.net",
        "xn--a-.example.net",
        "xn--zzzzzzzzzz9.com",
        "xn--\u00e9.com",
        "a" * 64 + ".net",
    ],
)
def test_names_that_stand_for_no_host_are_refused(host):
    """Proves that leading and trailing hyphens and undecodable names are refused as host names."""
    with pytest.raises(EgressDenied) as denied:
        check_url(f"https://{host}/")
    assert denied.value.code == "invalid_url"


def test_refused_suffix_holds_for_names_with_underscores():
    """Proves that the wider grammar opens no private name, until the operator lists the host."""
    with pytest.raises(EgressDenied, match="not a public name"):
        check_url("https://my_service.internal/")
    with override_settings(WEBHOOKS={"ALLOW_HOSTS": ["my_service.internal"]}):
        check_url("https://my_service.internal/")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://a.example.net", "/"),
        ("https://a.example.net?a=1", "/?a=1"),
        ("https://a.example.net/p?", "/p?"),
        ("https://a.example.net/p?&", "/p?&"),
        ("https://a.example.net/p?a=1?", "/p?a=1?"),
        ("https://a.example.net//x//", "//x//"),
        ("https://a.example.net/a/../b/./c", "/a/../b/./c"),
        ("https://a.example.net/%2f%c3%A9+~", "/%2f%c3%A9+~"),
    ],
)
def test_path_is_kept_byte_for_byte(url, path):
    """Proves that the path and query are requested byte for byte as given."""
    assert policy.target_of(url).path == path


@pytest.mark.parametrize(
    ("answers", "is_dialled"),
    [
        (["64:ff9b::5db8:d70e"], True),  # 93.184.215.14
        (["93.184.215.14", "64:ff9b::5db8:d70e"], True),
        (["64:ff9b::7f00:1"], False),  # loopback inside
        (["64:ff9b::a9fe:a9fe"], False),  # metadata inside
        (["64:ff9b::5db8:d70e", "64:ff9b::a00:1"], False),  # mixed
        (["64:ff9b:1::5db8:d70e"], False),  # local use
        (["64:ff9b::1:5db8:d70e"], False),  # outside of the /96
        (["2002:5db8:d70e::1"], False),
        (["::ffff:93.184.215.14"], False),
    ],
)
def test_nat64_answers_are_judged_by_the_address_inside(dialled, answers, is_dialled):
    """Proves that networks without IPv4 reach public receivers, and nothing else, by NAT64."""

    async def send():
        async with Transport(resolver=StubResolver({"a.example.net": answers})) as transport:
            return await transport.send("https://a.example.net/", {}, b"{}", timeout=2)

    result = asyncio.run(send())
    assert (result.error_code == "blocked_address") is not is_dialled
    assert bool(dialled) is is_dialled


def test_nat64_obeys_the_operator(dialled):
    """Proves that a denied network counts for the address inside and for the prefix itself."""
    answers = {"a.example.net": ["64:ff9b::5db8:d70e"]}

    async def send():
        async with Transport(resolver=StubResolver(answers)) as transport:
            return await transport.send("https://a.example.net/", {}, b"{}", timeout=2)

    for denied in ("93.184.215.0/24", "64:ff9b::/96"):
        with override_settings(WEBHOOKS={"DENY_NETWORKS": [denied]}):
            assert asyncio.run(send()).error_code == "blocked_address"
    assert dialled == []
    assert not address_allowed("64:ff9b::5db8:d70e"), "a URL may not name it"
