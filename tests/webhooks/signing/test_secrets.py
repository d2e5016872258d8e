"""Signing secrets: encrypted at rest, bound to their project, rotated with an overlap."""

import asyncio
import threading
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.models import F
from django.test import override_settings

from webhooks_app.database import DatabaseThread
from webhooks_app.models import SigningSecret, WebhookEndpoint
from webhooks_app.signing import store
from webhooks_app.signing.scheme import sign

KEY_A, KEY_B = (Fernet.generate_key().decode() for _ in range(2))
pytestmark = pytest.mark.django_db


def dump_of(table):
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} TO STDOUT") as copy:
        return b"".join(bytes(chunk) for chunk in copy)


def let_time_pass(seconds):
    SigningSecret.objects.update(expires_at=F("expires_at") - timedelta(seconds=seconds))


def test_first_use_makes_one_secret_and_keeps_it():
    """Proves that a project has a secret from its first use on, and always the same one."""
    secret = store.get_or_create("film")
    assert secret.startswith("whsec_")
    assert sign(secret, "msg_1", 1, b"{}")
    assert store.get_or_create("film") == secret
    assert store.current_secrets("film") == [secret]
    assert store.get_or_create("other") != secret


def test_a_dump_of_the_database_contains_no_usable_secret():
    """Proves that the stored bytes hold neither the secret nor the key's raw bytes."""
    secret = store.get_or_create("film")
    dump = dump_of("webhooks_app_signingsecret")
    stored = bytes(SigningSecret.objects.get().ciphertext)
    assert b"film" in dump
    for haystack in (dump, stored, bytes.fromhex(stored.hex())):
        assert secret.encode() not in haystack
        assert secret.removeprefix("whsec_").encode() not in haystack
    with (
        override_settings(SECRET_KEY="whoever has the dump has another key"),
        pytest.raises(store.UnreadableSecret),
    ):
        store.decrypt(stored, "film")


def test_a_rotation_overlaps_for_24_hours():
    """Proves that the old secret signs beside the new one for exactly a day."""
    old = store.get_or_create("film")
    new = store.rotate("film")
    assert store.current_secrets("film") == [new, old]
    _, previous = store.living_secrets("film")
    row = SigningSecret.objects.get(expires_at__isnull=False)
    assert previous.expires_at == row.expires_at
    let_time_pass(24 * 3600 - 60)
    assert store.current_secrets("film") == [new, old]
    let_time_pass(61)
    assert store.current_secrets("film") == [new]


def test_an_overlap_of_zero_ends_every_older_secret_at_once():
    """Proves that a leaked secret can be taken out of use immediately."""
    store.get_or_create("film")
    store.rotate("film")
    new = store.rotate("film", overlap_seconds=0)
    assert store.current_secrets("film") == [new]


def test_many_rotations_do_not_grow_the_signature_header():
    """Proves that only the newest few secrets sign, however many rotations a day has."""
    made = [store.rotate("film") for _ in range(6)]
    assert store.current_secrets("film") == made[:-4:-1]


def test_an_endpoint_signs_with_its_own_secret_else_with_its_projects():
    """Proves that subscriptions have their own secrets and that none is left unsigned."""
    endpoint = WebhookEndpoint.objects.create(scope="film", url="https://a.example.org/")
    project = store.get_or_create("film")
    assert store.current_secrets("film", endpoint.id) == [project]
    own = store.get_or_create("film", endpoint.id)
    assert store.current_secrets("film", endpoint.id) == [own]
    assert store.current_secrets("film") == [project]
    assert store.rotate("film", endpoint_id=endpoint.id) != own
    assert store.current_secrets("film") == [project]


def test_a_secret_copied_to_another_project_is_refused():
    """Proves that the scope inside the plaintext is checked, not only the column."""
    store.get_or_create("film")
    SigningSecret.objects.update(scope="thief")
    with pytest.raises(store.UnreadableSecret, match="another scope"):
        store.current_secrets("thief")


def test_a_wrong_key_is_refused_with_what_to_do():
    """Proves that a lost key stops the start with a clear error, instead of wrong signatures."""
    with override_settings(WEBHOOKS={"SECRET_KEYS": [KEY_A]}):
        secret = store.get_or_create("film")
        store.require_readable()
    with override_settings(WEBHOOKS={"SECRET_KEYS": [KEY_B]}):
        with pytest.raises(store.UnreadableSecret, match=r"WEBHOOKS\['SECRET_KEYS'\]"):
            store.require_readable()
        found = checks.run_checks(tags=[checks.Tags.database], databases=["default"])
        assert [message.id for message in found] == ["webhooks.E004"]
        assert secret not in str(found)
        with pytest.raises(SystemCheckError, match=r"WEBHOOKS\['SECRET_KEYS'\]"):
            call_command("migrate", skip_checks=False, verbosity=0)


def test_new_key_in_front_reads_the_old_and_reencryption_frees_it():
    """Proves the whole change of a key: add, re-encrypt, drop the old one."""
    secret = store.get_or_create("film")  # under the key derived from SECRET_KEY
    with override_settings(WEBHOOKS={"SECRET_KEYS": [KEY_A]}):
        assert store.current_secrets("film") == [secret]
        assert sum(store.reencrypt_all(batch=1)) == 1
        with override_settings(SECRET_KEY="quite another one"):
            assert store.current_secrets("film") == [secret]


def test_a_key_that_is_none_is_found_by_the_checks():
    """Proves that `manage.py check` names a malformed key before any secret is needed."""
    for broken, code in (
        ({"SECRET_KEYS": ["short"]}, "webhooks.E002"),
        ({"ED25519_PRIVATE_KEY": "whsk_AAAA"}, "webhooks.E003"),
        ({"ED25519_PUBLIC_KEYS": ["whpk_AAAA"]}, "webhooks.E007"),
        ({"TIMEOUT": 1}, "webhooks.E001"),
        ({"POLICIES": {"odd": [-1]}}, "webhooks.E006"),
    ):
        with override_settings(WEBHOOKS=broken):
            assert [m.id for m in checks.run_checks(tags=["webhooks"])] == [code]
    with (
        override_settings(WEBHOOKS={"SECRET_KEYS": ["short"]}),
        pytest.raises(ImproperlyConfigured, match="32 random bytes"),
    ):
        store.get_or_create("film")


def test_deploy_checks_name_open_doors():
    """Proves that an allow-list or plain http in production gives a warning."""
    with override_settings(WEBHOOKS={"ALLOW_NETWORKS": ["10.1.0.0/16"], "REQUIRE_HTTPS": False}):
        found = checks.run_checks(tags=["webhooks"], include_deployment_checks=True)
    assert [m.id for m in found] == ["webhooks.W001", "webhooks.W002", "webhooks.I001"]


@pytest.mark.django_db(transaction=True)
def test_first_uses_and_rotations_at_once_leave_one_current_secret():
    """Proves that processes racing for a project's first secret agree on one."""
    barrier, seen = threading.Barrier(4), []

    def use():
        barrier.wait()
        seen.append(store.get_or_create("film"))
        store.rotate("film")
        connection.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert SigningSecret.objects.filter(expires_at__isnull=True).count() == 1
    assert SigningSecret.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_the_cache_keeps_what_was_found_and_no_failure():
    """Proves that an engine caches secrets for a while, but retries at once after an error."""
    secret = store.get_or_create("film")
    good = SigningSecret.objects.get().ciphertext
    SigningSecret.objects.update(ciphertext=b"nonsense")

    async def ask():
        cache, writer = store.SecretCache(), DatabaseThread("writer")
        with pytest.raises(store.UnreadableSecret):
            await cache.get("film", None)
        await writer.call(lambda: SigningSecret.objects.update(ciphertext=good))
        first = await asyncio.gather(*(cache.get("film", None) for _ in range(3)))
        await writer.call(lambda: SigningSecret.objects.update(ciphertext=b"nonsense"))
        first.append(await cache.get("film", None))
        await asyncio.gather(cache.close(), writer.close())
        return first

    assert asyncio.run(ask()) == [[secret]] * 4
