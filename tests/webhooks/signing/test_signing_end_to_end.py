"""Can a receiver verify webhooks without our code, also during a rotation, and with Ed25519?"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from tests.support import factories
from tests.support.receiver import Receiver, Request, is_signed_by
from tests.support.running import publish, running_engine, status_of
from tests.support.waiting import wait_until
from webhooks_app.models import SigningSecret
from webhooks_app.signing.scheme import generate_private_key, public_key

pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = "signed_project"
PATH = "/api/v1/webhooks/signing-secret"


@pytest.fixture
def project_api(transactional_db: None) -> Client:
    """A client whose key is bound to the project."""
    _, key = factories.make_api_key(project_id=PROJECT)
    return Client(headers={"x-api-key": key})


@pytest.fixture(autouse=True)
def _fresh_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make engines see a rotation at once instead of within 5 s."""
    monkeypatch.setattr("webhooks_app.signing.store.FRESH_SECONDS", 0.0)


def deliver(receiver: Receiver, number: int) -> Request:
    """Send one more event and return its request."""
    event = publish(receiver.url, scope=PROJECT, subject=f"task-{number}")
    wait_until(lambda: status_of(event) == "delivered")
    return receiver.requests[-1]


def test_rotation_by_api_overlaps_and_ends(project_api: Client) -> None:
    """Before, during and after the overlap of a rotation, each secret verifies what it should."""
    old = project_api.get(PATH).json()["secret"]
    with Receiver([200]) as receiver, running_engine():
        before = deliver(receiver, 1)
        rotated = project_api.post(f"{PATH}/rotate", {}, content_type="application/json")
        assert rotated.status_code == 200, rotated.content
        shown = project_api.get(PATH).json()
        new = shown["secret"]
        assert [item["secret"] for item in shown["previous"]] == [old] != [new]
        during = deliver(receiver, 2)
        overlapping = SigningSecret.objects.filter(expires_at__isnull=False)
        overlapping.update(expires_at=timezone.now())  # 24 hours later
        after = deliver(receiver, 3)
    assert [is_signed_by(Webhook(old), r) for r in (before, during, after)] == [True, True, False]
    assert [is_signed_by(Webhook(new), r) for r in (before, during, after)] == [False, True, True]
    assert [r.headers["webhook-signature"].count("v1,") for r in (before, during, after)] == [
        1,
        2,
        1,
    ]


def test_ed25519_signature_verifies_with_the_published_key(settings: Any, client: Client) -> None:
    """A POST's v1a verifies by `cryptography` with the JWKS alone; an altered body does not."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "ED25519_PRIVATE_KEY": generate_private_key()}
    with Receiver([200]) as receiver, running_engine():
        request = deliver(receiver, 1)
    (key,) = client.get("/.well-known/webhooks-jwks.json").json()["keys"]
    assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "=="))
    versions = dict(part.split(",", 1) for part in request.headers["webhook-signature"].split())
    assert set(versions) == {"v1", "v1a"}
    signature = base64.b64decode(versions["v1a"])
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    public.verify(signature, head + request.body)
    with pytest.raises(InvalidSignature):
        public.verify(signature, head + request.body + b" ")


def test_ed25519_key_is_changed_without_a_gap(settings: Any, client: Client) -> None:
    """Before, at and after the change, each request verifies by the keys that were published."""
    old, new = generate_private_key(), generate_private_key()
    steps = [(old, []), (old, [public_key(new)]), (new, [public_key(old)]), (new, [])]
    known: list[Ed25519PublicKey] = []  # what a receiver fetched one step ago
    with Receiver([200]) as receiver, running_engine():
        for number, (private, public) in enumerate(steps):
            own = {"ED25519_PRIVATE_KEY": private, "ED25519_PUBLIC_KEYS": public}
            settings.WEBHOOKS = {**settings.WEBHOOKS, **own}
            known = known or published(client)
            request = deliver(receiver, number)
            assert any(verifies(key, request) for key in known)
            known = published(client)
    assert len(known) == 1


def published(client: Client) -> list[Ed25519PublicKey]:
    """Fetch the keys, as a receiver does."""
    keys = client.get("/.well-known/webhooks-jwks.json").json()["keys"]
    assert len({key["kid"] for key in keys}) == len(keys)
    raw = [base64.urlsafe_b64decode(key["x"] + "==") for key in keys]
    return [Ed25519PublicKey.from_public_bytes(each) for each in raw]


def verifies(key: Ed25519PublicKey, request: Request) -> bool:
    """Tell whether a request's v1a signature is of this key."""
    versions = dict(part.split(",", 1) for part in request.headers["webhook-signature"].split())
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    try:
        key.verify(base64.b64decode(versions["v1a"]), head + request.body)
    except InvalidSignature:
        return False
    return True


def test_every_project_is_signed_with_its_own_secret(project_api: Client) -> None:
    """What one project's secret verifies, another's does not."""
    secret = project_api.get(PATH).json()["secret"]
    with Receiver([200]) as receiver, running_engine():
        own = deliver(receiver, 1)
        event = publish(receiver.url, scope="another_project", subject="task-x")
        wait_until(lambda: status_of(event) == "delivered")
        foreign = receiver.requests[-1]
    assert is_signed_by(Webhook(secret), own)
    assert not is_signed_by(Webhook(secret), foreign)
