"""The egress policy against generated hosts in every encoding that has ever worked somewhere."""

import asyncio
import ipaddress
import os
import random

from django.test import override_settings

from tests.webhooks.egress.test_egress import StubResolver, dialled, oracle_allows
from webhooks_app.egress import policy
from webhooks_app.egress.grammar import Origin, parse_url, parse_within
from webhooks_app.transport import dial
from webhooks_app.transport.client import Transport
from webhooks_app.transport.failure import Trace

__all__ = ["dialled"]  # a fixture

# The nightly run sets FUZZ_URLS=1000000.
URLS = int(os.environ.get("FUZZ_URLS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "20250115"))

_INTERESTING_V4 = [
    "127.0.0.1", "10.0.0.5", "169.254.169.254", "192.168.1.1", "172.16.0.1", "0.0.0.0",
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "168.63.129.16", "8.8.8.8", "93.184.215.14",
]  # fmt: skip
_INTERESTING_V6 = [
    "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "2001:0:4136::1", "2606:4700::1111",
    "fec0::1", "100::1", "3fff::1", "5f00::1", "4000::1", "2003::1",
    "64:ff9b::808:808", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "64:ff9b::1:808:808",
]  # fmt: skip
_NAMES = [
    "localhost", "example.com", "metadata.google.internal", "a.local", "db", "xn--fiqs8s.cn",
    "xn--zz--9.com", "rebind.example.net", "a_b.example.com", "-a.com", "ex--ample.com",
    "my--3000--owner.example.net", "xn--ls8h.la", "_.example.net",
]  # fmt: skip
_ODD = [*"@:/\\?#[]%._- \t\r\n\0;,&'\"0x", "\uff11", "\u3002", "\u2460", "\u017f", "\u202e"]
_ODD += ["%2e", "%00", "::", "..", "//", "@@"]


def _number(rng, value):
    """Write a number in decimal, octal or hexadecimal, sometimes padded."""
    return rng.choice(["{:d}", "0{:o}", "0x{:x}", "0X{:X}", "00{:d}", "{:d}", "{:d}"]).format(value)


def _ipv4(rng):
    """Write an IPv4 address with one to four numbers, as inet_aton would read them."""
    text = rng.choice(_INTERESTING_V4)
    n = int(ipaddress.IPv4Address(text)) if rng.random() < 0.7 else rng.getrandbits(32)
    parts = rng.choice([1, 2, 3, 4, 4, 4, 4])
    heads = [n >> (24 - 8 * i) & 255 for i in range(parts - 1)]
    return ".".join(_number(rng, part) for part in [*heads, n & (1 << (32 - 8 * (parts - 1))) - 1])


def _ipv6(rng):
    """Write an IPv6 address compressed, exploded, with an IPv4 tail or with a zone."""
    text = rng.choice(_INTERESTING_V6)
    address = ipaddress.IPv6Address(text if rng.random() < 0.7 else rng.getrandbits(128))
    forms = [str(address), address.exploded, str(address).upper(), f"{address}%25eth0"]
    tail = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    forms.append(f"::ffff:{tail}")
    return f"[{rng.choice(forms)}]"


def _host(rng):
    kind = rng.random()
    if kind < 0.45:
        host = _ipv4(rng)
    elif kind < 0.75:
        host = _ipv6(rng)
    else:
        host = rng.choice(_NAMES)
    if rng.random() < 0.3:  # mutate
        at = rng.randrange(len(host) + 1)
        host = host[:at] + rng.choice(_ODD) + host[at + rng.randrange(2) :]
    return host


def _url(rng):
    scheme = rng.choice(["https", "https", "https", "http", "HTTPS", "ftp"])
    userinfo = rng.choice(["", "", "", "", "user@", "example.com@", "a:b@"])
    port = rng.choice(["", "", "", ":443", ":8443", ":22", ":6379", ":0443", ":"])
    return f"{scheme}://{userinfo}{_host(rng)}{port}{rng.choice(['/', '', '/a?b=c', '?x', '#y'])}"


def _answers(rng):
    public = ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2003::1", "64:ff9b::808:808"]
    pool = public if rng.random() < 0.5 else _INTERESTING_V4 + _INTERESTING_V6
    return [rng.choice(pool) for _ in range(rng.choice([1, 1, 2, 3]))]


async def _dialled(origin, guard):
    """Follow one origin to the addresses that the client would dial, in their order."""
    permitted = policy.address_rule(origin, policy.address_allowed)
    try:
        addresses = await dial.addresses_of(origin, guard, Trace())
    except OSError:
        return []
    reached = []
    for address in addresses:
        try:
            policy.guarded_socket(address, permitted).close()
        except policy.PolicyBlocked:
            continue
        reached.append(address[4][0])
    return reached


def _oracle_allows(ip, origin):
    """Check also an address that a resolver may give although a URL may not contain it."""
    number = int(ipaddress.ip_address(ip))
    if ":" in ip and number >> 32 == 0x0064FF9B << 64 and not origin.is_address:
        return oracle_allows(str(ipaddress.IPv4Address(number & 0xFFFFFFFF)))
    return oracle_allows(ip)


def _read(parse, *arguments):
    """Return what a reading of a URL gives: a target, None, or the words of a refusal."""
    try:
        return parse(*arguments)
    except policy.EgressDenied as denied:
        return denied.message


def test_a_url_of_a_known_origin_is_read_as_any_other():
    """Proves that the short way to read a provider's URL takes only what the long way takes so."""
    rng = random.Random(SEED)
    origin = Origin("https", "example.com", 8443)
    heads = [
        "https://example.com:8443",
        "https://example.com",
        "HTTPS://EXAMPLE.com:8443",
        "https:",
    ]
    short = refused = 0
    for _ in range(URLS // 4):
        parts = rng.choices([*_ODD, "/", "a", "v1", "?x=y", "#z", "%41", ":8443", "@"], k=5)
        url = rng.choice(heads) + rng.choice(["/", "/", ""]) + "".join(parts)
        found = _read(parse_within, origin, url)
        if found is not None:
            assert found == _read(parse_url, url), url
            short, refused = short + (not isinstance(found, str)), refused + isinstance(found, str)
    assert min(short, refused) > 50


def test_no_generated_url_reaches_a_denied_address():
    """Proves over many thousand hostile URLs that no address passes which the oracle denies."""
    rng = random.Random(SEED)
    allowed = reached = 0

    async def run():
        nonlocal allowed, reached
        for _ in range(URLS):
            url = _url(rng)
            try:
                # Only the grammar: the connection must hold without the policy on names.
                origin = parse_url(url).origin
            except policy.EgressDenied:
                continue
            allowed += 1
            guard = policy.GuardResolver(StubResolver({origin.host: _answers(rng)}))
            for ip in await _dialled(origin, guard):
                reached += 1
                assert _oracle_allows(ip, origin), (url, ip, SEED)

    with override_settings(WEBHOOKS={}):
        asyncio.run(run())
    # The generator must make enough that passes, or the test would prove nothing.
    assert allowed > URLS / 100
    assert reached > URLS / 200


def test_the_client_itself_reaches_no_denied_address(dialled, monkeypatch):
    """Proves the same with the real client and no policy for names, for well-formed URLs."""
    monkeypatch.setattr(policy, "_refusal", lambda origin, settings: "")
    rng = random.Random(SEED + 1)
    resolver = StubResolver({})

    async def run():
        sent = reached = 0
        async with Transport(resolver=resolver) as transport:
            while sent < URLS / 40:
                url = _url(rng)
                try:
                    origin = parse_url(url).origin
                except policy.EgressDenied:
                    continue
                sent += 1
                answers = [origin.host] if origin.is_address else _answers(rng)
                resolver.answers = {origin.host: answers}
                dialled.clear()
                await transport.send(url, {}, b"{}", timeout=2)
                reached += len(dialled)
                # One denied answer, and none of them is dialled.
                is_allowed = all(_oracle_allows(ip, origin) for ip in answers)
                assert set(dialled) == (set(answers) if is_allowed else set()), (url, answers)

        return reached

    with override_settings(WEBHOOKS={}):
        assert asyncio.run(run()) > URLS / 200


def test_every_kind_of_address_agrees_with_the_oracle():
    """Proves over random addresses, and the edges of every network, that both tables agree."""
    rng = random.Random(SEED)
    edges = []
    for network in (*policy._DENIED, policy._GLOBAL_V6, policy._NAT64):
        first, last = int(network.network_address), int(network.broadcast_address)
        kind = type(network.network_address)
        top = (1 << network.max_prefixlen) - 1
        edges += [kind(n) for n in (first - 1, first, last, last + 1) if 0 <= n <= top]
    addresses = [ipaddress.IPv4Address(rng.getrandbits(32)) for _ in range(4000)]
    addresses += [ipaddress.IPv6Address(rng.getrandbits(128)) for _ in range(2000)]
    addresses += [ipaddress.IPv6Address(1 << 125 | rng.getrandbits(125)) for _ in range(4000)]
    with override_settings(WEBHOOKS={}):
        for address in edges + addresses:
            assert policy.address_allowed(str(address)) == oracle_allows(str(address)), address
