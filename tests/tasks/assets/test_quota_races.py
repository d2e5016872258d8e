"""Does a project's quota hold when many assets of it become ready in the same moment?"""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from tasks_app.models import MediaFile
from tasks_app.state import assets
from tests.support import factories
from tests.support.factories import PROJECT

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = 8
SIZE = 1_000


def at_the_same_time(work: Any) -> list[bool]:
    """Do it in many threads that begin together; say of each whether there was room."""
    start = threading.Barrier(AT_ONCE)

    def one(number: int) -> bool:
        try:
            connections["default"].ensure_connection()
            start.wait(30)
            work(number)
            return True
        except assets.QuotaExceeded:
            return False
        finally:
            connections.close_all()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def described(file: MediaFile) -> MediaFile:
    """Fill in what is known of a file's content."""
    file.project_id, file.origin, file.role = PROJECT, "upload", assets.ROLE
    file.path, file.media_type, file.size_bytes = "p", "image/png", SIZE
    file.sha256, file.codecs = secrets.token_hex(32), ["png"]
    return file


@pytest.mark.parametrize("turn", range(5))
def test_uploads_do_not_exceed_it_together(settings: Any, turn: int) -> None:
    """Of eight at once exactly three are taken where there is room for three."""
    settings.ASSET_QUOTA_BYTES = 3 * SIZE
    taken = at_the_same_time(lambda _: assets.insert_ready(described(MediaFile())))
    assert taken.count(True) == MediaFile.objects.count() == 3


def test_fetched_assets_do_not_exceed_it_together(settings: Any) -> None:
    """The same for what workers have fetched."""
    settings.ASSET_QUOTA_BYTES = 3 * SIZE
    for _ in range(AT_ONCE):
        assets.insert_pending(PROJECT, "https://a.example.org/")
    claimed = [assets.claim(30.0) for _ in range(AT_ONCE)]
    assert len({file.pk for file in claimed if file is not None}) == AT_ONCE
    taken = at_the_same_time(lambda number: assets.finish(described(claimed[number])))  # type: ignore[arg-type]
    assert taken.count(True) == MediaFile.objects.filter(state="ready").count() == 3


def test_the_same_bytes_become_one_row(settings: Any) -> None:
    """Eight inserts of the same bytes at once give one row, and all of them its id."""
    settings.ASSET_QUOTA_BYTES = SIZE
    digest, found = secrets.token_hex(32), []

    def insert(_: int) -> None:
        file = described(MediaFile())
        file.sha256 = digest
        found.append(assets.insert_ready(file).pk)

    assert all(at_the_same_time(insert))
    assert len(set(found)) == MediaFile.objects.count() == 1
    assert MediaFile.objects.get().project_id == factories.PROJECT
