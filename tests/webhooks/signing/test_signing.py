"""Signatures against the published vectors and the independent implementation."""

import base64
import hashlib
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tests import ROOT
from webhooks_app.signing import scheme

VECTORS = json.loads((ROOT / "tests/vectors" / "standardwebhooks.json").read_text())
BODY = b'{"task_id":"1"}'


def headers(message_id, timestamp, signature):
    """The three headers of a request."""
    return {
        "Webhook-Id": message_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": signature,
    }


@pytest.mark.parametrize("case", VECTORS["vectors"], ids=lambda case: case["note"][:40])
def test_vector_is_signed_and_verified(case):
    """Proves that signer and verifier agree with every published signature."""
    body = case["body"].encode()
    assert hashlib.sha256(body).hexdigest() == case["body_utf8_sha256"]
    signature = scheme.sign(case["secret"], case["id"], case["timestamp"], body)
    assert signature == case["signature"]
    given_headers = headers(case["id"], case["timestamp"], signature)
    assert scheme.verify(case["secret"], given_headers, body, now=case["timestamp"])
    other = scheme.generate_secret()
    assert not scheme.verify(other, given_headers, body, now=case["timestamp"])


@pytest.mark.parametrize("case", VECTORS["rotation"], ids=lambda case: case["id"])
def test_rotation_signs_with_every_secret(case):
    """Proves that during a rotation a receiver with either secret can verify."""
    header = scheme.signature_header(
        case["secrets"], case["id"], case["timestamp"], case["body"].encode()
    )
    assert header == case["header"]
    for secret in case["secrets"]:
        parts = (case["id"], str(case["timestamp"]), header)
        assert scheme.verify(secret, parts, case["body"], now=case["timestamp"])


@pytest.mark.parametrize("case", VECTORS["negative"], ids=lambda case: case["note"])
def test_altered_request_is_refused(case):
    """Proves that no altered vector verifies."""
    given_headers = headers(case["id"], case["timestamp"], case["signature"])
    assert not scheme.verify(case["secret"], given_headers, case["body"], now=case["timestamp"])


@pytest.mark.parametrize(
    ("timestamp", "signature"),
    [
        ("", None),
        ("1e9", None),
        ("-5", None),
        ("٣", None),
        ("9" * 5000, None),
        (None, ""),
        (None, "v1"),
        (None, ","),
        (None, "v1,ü"),
        (None, "v1a,AAAA"),
    ],
)
def test_nonsense_headers_are_refused_without_an_error(timestamp, signature):
    """Proves that hostile headers give False and never an exception."""
    secret = scheme.generate_secret()
    valid = scheme.sign(secret, "msg_1", 1000, BODY)
    parts = (
        "msg_1",
        "1000" if timestamp is None else timestamp,
        valid if signature is None else signature,
    )
    public = scheme.public_key(scheme.generate_private_key())
    assert not scheme.verify([secret, public], parts, BODY, now=1000)
    assert not scheme.verify(secret, {}, BODY)


def test_old_and_future_timestamps_are_refused():
    """Proves the five minutes of tolerance, both ways, and that None switches them off."""
    secret = scheme.generate_secret()
    parts = ("msg_1", "1000", scheme.sign(secret, "msg_1", 1000, BODY))
    assert scheme.verify(secret, parts, BODY, now=1300)
    assert scheme.verify(secret, parts, BODY, now=700)
    assert not scheme.verify(secret, parts, BODY, now=1301)
    assert not scheme.verify(secret, parts, BODY, now=699)
    assert scheme.verify(secret, parts, BODY, None, now=10**9)


@given(st.text(), st.integers(24, 64))
def test_independent_implementation_verifies_every_signature(text, size):
    """Proves for any text that the standardwebhooks package accepts what we sign."""
    secret = scheme.generate_secret(size)
    body = text.encode("utf-8", "replace")
    now = int(time.time())
    signature = scheme.sign(secret, "msg_x", now, body)
    sent = headers("msg_x", now, signature)
    Webhook(secret).verify(body, sent, json_parse=False)
    theirs = Webhook(secret).sign("msg_x", datetime.fromtimestamp(now, UTC), body.decode())
    assert scheme.verify(secret, headers("msg_x", now, theirs), body)


def test_generated_secret_has_the_specified_form():
    """Proves prefix and length, and that two secrets are never the same."""
    one, two = scheme.generate_secret(), scheme.generate_secret()
    assert one != two
    assert one.startswith("whsec_")
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
    for size in (23, 65):
        with pytest.raises(ValueError):
            scheme.generate_secret(size)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_AAAA", "whsec_*", "whsec_" + "A" * 200])
def test_unusable_secret_is_refused_without_being_shown(secret):
    """Proves that the error of a bad secret does not contain it."""
    with pytest.raises(scheme.InvalidSecret) as caught:
        scheme.sign(secret, "msg_1", 1, BODY)
    assert secret.removeprefix("whsec_") == "" or secret not in str(caught.value)


def test_ambiguous_content_is_never_signed():
    """Proves that an id with a dot and a time that is not a whole number are refused."""
    secret = scheme.generate_secret()
    with pytest.raises(ValueError):
        scheme.sign(secret, "msg.1", 1, BODY)
    with pytest.raises(TypeError):
        scheme.sign(secret, "msg_1", 1.5, BODY)


def test_ed25519_signature_verifies_with_the_public_key_only():
    """Proves v1a beside v1 in one header, each with its own key."""
    private = scheme.generate_private_key()
    secret = scheme.generate_secret()
    header = scheme.signature_header([secret], "msg_1", 1000, BODY, private)
    assert [part.split(",")[0] for part in header.split()] == ["v1", "v1a"]
    parts = ("msg_1", "1000", header)
    assert scheme.verify(scheme.public_key(private), parts, BODY, now=1000)
    assert scheme.verify(secret, parts, BODY, now=1000)
    assert not scheme.verify(scheme.public_key(private), parts, BODY + b" ", now=1000)
    stranger = scheme.public_key(scheme.generate_private_key())
    assert not scheme.verify(stranger, parts, BODY, now=1000)


def test_ed25519_agrees_with_the_published_test_key():
    """Proves key reading and signing against RFC 8032, 7.1, test 1, and the thumbprint of 8037."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    private = "whsk_" + base64.b64encode(seed).decode()
    assert scheme.public_key(private) == "whpk_" + base64.b64encode(public).decode()
    both = "whsk_" + base64.b64encode(seed + public).decode()
    assert scheme.public_key(both) == scheme.public_key(private)
    own = scheme.public_key(private)
    (jwk,) = scheme.jwks([own, own])["keys"]
    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
