"""What does a provider get of a task's inputs, and what does the receipt say of them?"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from tasks_app.media import serve, store
from tasks_app.media.inputs import inputs_of
from tasks_app.models import MediaFile, Task, TaskInput
from tasks_app.providers.base import Result
from tests.support import factories
from tests.support.uploads import png

pytestmark = pytest.mark.django_db


def asset(content: bytes) -> MediaFile:
    """Make an asset with its file."""
    file = factories.make_asset(sha256=hashlib.sha256(content).hexdigest())
    file.path = default_storage.save(f"assets/{file.pk}/asset.png", ContentFile(content))
    file.save(update_fields=["path"])
    return file


@pytest.fixture
def task(db: None) -> Task:
    """A task with two reference images and a first frame."""
    task = factories.make_task("processing")
    for place, seed in enumerate((1, 2)):
        TaskInput.objects.create(
            task=task, name="reference_images", position=place, file=asset(png(seed))
        )
    TaskInput.objects.create(task=task, name="first_frame", file=asset(png(3)))
    return task


def test_inputs_come_by_name_and_in_order(task: Task, tmp_path: Path) -> None:
    """Each can be opened, read and copied, under a name that no client has chosen."""
    found = inputs_of(task)
    assert {name: len(files) for name, files in found.items()} == {
        "reference_images": 2,
        "first_frame": 1,
    }
    assert [file.read() for file in found["reference_images"]] == [png(1), png(2)]
    (first,) = found["first_frame"]
    copy = first.copied_to(tmp_path)
    assert copy.read_bytes() == png(3)
    assert copy.name == f"{first.asset_id}.png"
    assert (first.media_type, first.width) == ("image/png", 64)
    assert first.sha256 == hashlib.sha256(png(3)).hexdigest()


def test_a_link_to_an_input_lives_only_for_a_time(task: Task, settings: Any) -> None:
    """It needs no key, ends by itself, and opens neither another file nor this one for longer."""
    one, two = inputs_of(task)["reference_images"]
    link = one.link(60).removeprefix(settings.PUBLIC_URL)
    assert one.file.link_token not in link
    assert b"".join(Client().get(link)) == png(1)
    settings.MEDIA_URL_TTL = 60
    assert b"".join(Client().get(link)) == png(1), "it brings its own time"
    until = re.search(r"/(\d+)\.", link)
    assert until is not None
    later = link.replace(until[1], str(int(until[1]) + 1))
    for wrong in (later, link.replace(one.asset_id, two.asset_id), link.replace(".", ".x", 1)):
        assert Client().get(wrong).status_code == 404, wrong
    assert int(until[1]) <= time.time() + 60
    over = serve.short_link(one.file, -1).removeprefix(settings.PUBLIC_URL)
    assert Client().get(over).status_code == 404


def test_the_receipt_names_what_it_was_made_from(task: Task) -> None:
    """The result lists name, asset and hash of each input; without inputs it has no such member."""
    made = factories.make_media_file(task)
    told = store.describe(Result((), "painter", "painter-1"), [made])["inputs"]
    assert [(row["name"], row["sha256"]) for row in told] == [
        (file.name, file.sha256) for files in inputs_of(task).values() for file in files
    ]
    assert set(told[0]) == {"name", "asset_id", "sha256"}
    plain = factories.make_media_file()
    assert "inputs" not in store.describe(Result((), "painter", "painter-1"), [plain])
