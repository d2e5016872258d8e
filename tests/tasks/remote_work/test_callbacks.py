"""Do calls of providers only say when to look? Lose every one, then none: the same results."""

import base64
import hashlib
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client

from tasks_app.models import MediaFile
from tests.support.fake_provider import FakeProvider
from tests.support.remote_work import GET, MODEL, begin, ended, job_of, remote_work, use
from tests.support.waiting import wait_until
from webhooks_app import signing

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
FAL_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY = b'{"status": "OK"}'


def by_replicate(now: int, body: bytes = BODY) -> dict[str, str]:
    """Return the headers of a call that Replicate makes."""
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign(SECRET, "msg_1", now, body),
    }


def by_fal(now: int, body: bytes = BODY) -> dict[str, str]:
    """Return the headers of a call that fal makes."""
    content = "\n".join(["r1", "u1", str(now), hashlib.sha256(body).hexdigest()])
    return {
        "x-fal-webhook-request-id": "r1",
        "x-fal-webhook-user-id": "u1",
        "x-fal-webhook-timestamp": str(now),
        "x-fal-webhook-signature": FAL_KEY.sign(content.encode()).hex(),
    }


SIGNED = {"replicate": by_replicate, "fal": by_fal}


@pytest.fixture
def keys(settings):
    """What both providers sign with is known here; fal's keys lie on a server of their own."""
    public = FAL_KEY.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    document = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}
    with FakeProvider({"GET /jwks.json": [document]}) as server:
        settings.FAL_JWKS_URL = f"{server.url}/jwks.json"
        settings.REPLICATE_WEBHOOK_SECRET = SECRET
        yield server


def call(task, headers: dict[str, str], body: bytes = BODY) -> int:
    job = job_of(task)
    address = f"/api/v1/providers/{job.provider}/callback/{job.callback_token}"
    answer = Client().post(address, body, content_type="application/json", headers=headers)
    return int(answer.status_code)


@pytest.mark.parametrize("are_lost", [True, False])
@pytest.mark.parametrize("name", SIGNED)
def test_lost_calls_change_nothing(fake, keys, name, are_lost):
    """Proves that looks alone bring the same result as calls alone, only later."""
    use(name, poll_seconds=0.05 if are_lost else 600)
    fake.script[GET] = [{"status": "succeeded", "output": [f"{fake.url}/out.png"]}]
    fake.script[f"GET /{MODEL}/requests/f1/status"] = [{"status": "COMPLETED"}]
    with remote_work():
        tasks = [begin() for _ in range(3)]
        for task in [] if are_lost else tasks:
            wait_until(lambda task=task: job_of(task).state == "running", 30)
            for _ in range(2):  # the second one is a repetition
                assert call(task, SIGNED[name](int(time.time()))) == 204
        assert {ended(task).status for task in tasks} == {"completed"}
    assert MediaFile.objects.count() == 3
    assert len(set(MediaFile.objects.values_list("sha256", flat=True))) == 1


@pytest.mark.parametrize("name", SIGNED)
def test_a_call_that_is_old_changed_or_unsigned_is_refused(fake, keys, name):
    """Proves that a recorded call cannot be sent again or changed, and starts no look."""
    use(name, poll_seconds=600)
    sign, now = SIGNED[name], int(time.time())
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        due = job_of(task).next_look_at
        assert call(task, sign(now - 3600)) == 401
        assert call(task, sign(now), BODY + b" ") == 401
        assert call(task, {}) == 401
        assert job_of(task).next_look_at == due


def test_keys_that_cannot_be_fetched_refuse_and_are_asked_for_seldom(fake, keys, settings):
    """Proves that without fal's keys no call is believed, and they are not asked for each time."""
    settings.FAL_JWKS_URL = f"{keys.url}/nothing.json"
    use("fal", poll_seconds=600)
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        for _ in range(3):
            assert call(task, by_fal(int(time.time()))) == 401
    assert keys.count("GET /nothing.json") == 1
