"""Is a key checked against the database's current state, or that of a moment ago?"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks_app.access import authentication
from tasks_app.models import ApiKey
from tests.support import factories
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db
PATH = "/api/v1/tasks"


def key_reads(api: Client) -> int:
    """Return how often one request reads the key from the database."""
    with CaptureQueriesContext(connection) as asked:
        assert api.get(PATH).status_code == 200
    return sum("FROM tasks_app_apikey" in query["sql"] for query in asked.captured_queries)


def test_a_busy_thread_reads_a_key_now_and_then(api: Client) -> None:
    """The first request reads the key, the next ones do not, until REMEMBERED_SECONDS are over."""
    assert key_reads(api) == 1
    # Two requests within REMEMBERED_SECONDS; a busy machine may need a few tries for that.
    wait_until(lambda: key_reads(api) == 0, message="the key is remembered")
    wait_until(lambda: key_reads(api) == 1, message="the key is read again")


def test_a_revoked_key_is_refused_within_a_second(api: Client, api_key: str) -> None:
    """A revoked key is refused, also by a thread that remembered it."""
    assert api.get(PATH).status_code == 200
    ApiKey.objects.filter(prefix=api_key[:8]).update(revoked=True)
    revoked_at = time.monotonic()
    begun = [revoked_at]

    def is_refused() -> bool:
        begun.append(time.monotonic())
        return api.get(PATH).status_code == 401

    wait_until(is_refused)
    # However long a single answer takes, the last that was given had begun in time.
    assert begun[-2] - revoked_at <= authentication.REMEMBERED_SECONDS <= 1
    assert api.get(PATH).status_code == 401


def test_a_remembered_key_expires_on_time() -> None:
    """No request that began after the key's expiry is answered, even if the key is remembered."""
    for seconds in (0.3, 1, 5):  # a busy machine may need longer for the first answer
        ends = timezone.now() + timedelta(seconds=seconds)
        api = Client(headers={"x-api-key": factories.make_api_key(expiry_date=ends)[1]})
        if api.get(PATH).status_code == 200:
            break
    begun = [timezone.now()]

    def is_refused() -> bool:
        begun.append(timezone.now())
        return api.get(PATH).status_code == 401

    wait_until(is_refused)
    assert begun[-2] < ends, "a request that began after the expiry was answered"
    assert timezone.now() >= ends


def test_a_remembered_key_opens_nothing_to_half_of_it(api: Client, api_key: str) -> None:
    """The secret part is checked at every request, not only when the key is read."""
    assert api.get(PATH).status_code == 200
    wrong = Client(headers={"x-api-key": api_key[:-1] + ("a" if api_key[-1] != "a" else "b")})
    assert wrong.get(PATH).status_code == 401


def test_the_memory_of_a_thread_is_bounded() -> None:
    """A thread remembers a limited number of keys."""
    for number in range(authentication.REMEMBERED_KEYS + 5):
        authentication._memory.note(ApiKey(prefix=f"{number:08}"), 0.0)
    assert len(authentication._memory.keys) <= authentication.REMEMBERED_KEYS


def test_use_of_a_key_is_noted_once_a_minute(
    api: Client, api_key: str, forget_keys: Callable[[], None], django_assert_num_queries: Any
) -> None:
    """`last_used_at` is written by the first request and then at most once a minute."""
    api.get(f"{PATH}/metrics")
    first = ApiKey.objects.get(prefix=api_key[:8]).last_used_at
    assert first is not None
    forget_keys()
    with django_assert_num_queries(3):
        api.get(f"{PATH}/metrics")
    assert ApiKey.objects.get(prefix=api_key[:8]).last_used_at == first


def test_the_database_holds_no_usable_key(api_key: str) -> None:
    """The database contains only a hash: the clear text is in no column."""
    row = ApiKey.objects.filter(prefix=api_key[:8]).values().get()
    assert api_key.partition(".")[2] not in str(row)
