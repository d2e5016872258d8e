"""What becomes of a file that a client hands in, and who may see and delete it?"""

from __future__ import annotations

import hashlib
import struct
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import F
from django.test import Client
from django.utils import timezone

from tasks_app.assets import remove
from tasks_app.media import mark
from tasks_app.models import MediaFile, TaskInput
from tasks_app.state import projects
from tests.support import factories
from tests.support.factories import PROJECT
from tests.support.routes import client_of
from tests.support.uploads import ASSETS, png

pytestmark = pytest.mark.django_db


def send(api: Client, content: bytes, *, name: str = "a.png", **more: Any) -> Any:
    """Upload one file."""
    headers = more.pop("headers", {})
    file = SimpleUploadedFile(name, content, more.pop("content_type", "image/png"))
    return api.post(ASSETS, {"project_id": PROJECT, "file": file, **more}, headers=headers)


def stored_files(settings: Any) -> list[Path]:
    """Return all files in the storage and in work directories."""
    places = (Path(settings.MEDIA_ROOT), Path(settings.WORK_ROOT))
    return [path for place in places for path in place.rglob("*") if path.is_file()]


def test_an_uploaded_picture_is_ready_and_served(api: Client, settings: Any) -> None:
    """The answer describes the content by decoding it, and its link gives the same bytes."""
    content = png()
    answer = send(api, content)
    assert answer.status_code == 201, answer.content
    asset = answer.json()
    assert answer["Location"] == f"{ASSETS}/{asset['asset_id']}"
    assert (asset["state"], asset["origin"]) == ("ready", "upload")
    assert (asset["media_type"], asset["width"], asset["height"]) == ("image/png", 64, 64)
    assert asset["sha256"] == hashlib.sha256(content).hexdigest()
    assert asset["size_bytes"] == len(content)
    link = asset["media_url"].removeprefix(settings.PUBLIC_URL)
    served = api.get(link)
    assert b"".join(served) == content
    assert api.get(f"{ASSETS}/{asset['asset_id']}").json() == asset


def test_the_content_says_what_a_file_is(api: Client) -> None:
    """A picture that is called a film is a picture, and its link's name says so."""
    asset = send(api, png(), name="film.mp4", content_type="video/mp4").json()
    assert asset["media_type"] == "image/png"
    assert asset["media_url"].endswith(".png")


def bomb(side: int) -> bytes:
    """Return a small PNG that says it has side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side)
    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><script>alert(1)</script></html>",
        b"GIF89a<script>alert(1)</script>",
        png()[:4000],
        bomb(20_000),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    ],
    ids=["empty", "html", "script as gif", "cut short", "bomb", "playlist", "svg"],
)
def test_what_cannot_be_decoded_leaves_nothing(api: Client, settings: Any, content: bytes) -> None:
    """No media, half of it, or a picture too large to decode is 415; no row and no file stays."""
    answer = send(api, content)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media")
    assert str(settings.WORK_ROOT) not in answer.content.decode()
    if content.startswith(b"<"):
        assert "PNG, JPEG, WebP" in answer.json()["detail"]
    assert MediaFile.objects.count() == 0
    assert stored_files(settings) == []


def test_an_asset_that_nothing_needs_ends_after_its_days(api: Client, settings: Any) -> None:
    """ASSET_RETENTION_DAYS after the upload row and bytes go; what a queued task names stays."""
    settings.ASSET_RETENTION_DAYS = 2
    mark.adopt("a test", "")
    idle, needed = (send(api, png(seed)).json()["asset_id"] for seed in (1, 2))
    task = factories.make_task("queued")
    TaskInput.objects.create(task=task, name="first_frame", position=0, file_id=needed)

    def left_after(**passed: float) -> set[str]:
        MediaFile.objects.update(expires_at=F("expires_at") - timedelta(**passed))
        assert remove.prune().is_complete
        return set(MediaFile.objects.values_list("id", flat=True))

    assert left_after(days=1, hours=23) == {idle, needed}
    assert left_after(hours=1) == {needed}
    assert {path.parent.name for path in stored_files(settings)} & {idle, needed} == {needed}


def test_the_same_bytes_are_one_asset_in_a_project(api: Client, settings: Any) -> None:
    """A second upload is the first asset, whose time begins anew; in another project it is not."""
    first = send(api, png()).json()
    long_ago = timezone.now() + timedelta(hours=1)
    MediaFile.objects.update(expires_at=long_ago)
    again = send(api, png(), name="b.png").json()
    assert again["asset_id"] == first["asset_id"]
    assert again["expires_at"] > first["created_at"][:10] + "T99"
    other = send(api, png(), project_id="another").json()
    assert other["asset_id"] != first["asset_id"]
    assert len(stored_files(settings)) == MediaFile.objects.count() == 2


def test_what_tasks_made_is_not_merged(api: Client) -> None:
    """An upload of the bytes that a task made is an asset of its own."""
    digest = hashlib.sha256(png()).hexdigest()
    made = factories.make_media_file(sha256=digest)
    assert send(api, png()).json()["asset_id"] != made.id


def test_an_idempotency_key_stands_for_one_content(api: Client, settings: Any) -> None:
    """The same key and bytes give the first answer again, other bytes are a conflict."""
    key = {"Idempotency-Key": "k1"}
    first = send(api, png(1), headers=key)
    again = send(api, png(1), headers=key)
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    other = send(api, png(2), headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert len(stored_files(settings)) == MediaFile.objects.count() == 1


def test_a_file_too_large_is_413(api: Client, settings: Any) -> None:
    """The limit is for the file's own bytes, to the byte."""
    content = png()
    settings.ASSET_MAX_BYTES = len(content)
    assert send(api, content).status_code == 201
    settings.ASSET_MAX_BYTES = len(content) - 1
    answer = send(api, content)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_projects_quota_counts_what_it_handed_in(api: Client, settings: Any) -> None:
    """What would exceed the quota is 429; files of tasks and of other projects do not count."""
    content = png(1)
    factories.make_media_file(size_bytes=10**9)
    settings.ASSET_QUOTA_BYTES = len(content) + 10
    first = send(api, content)
    assert first.status_code == 201
    full = send(api, png(2))
    assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    assert send(api, content).status_code == 201, "the same bytes need no room"
    assert send(api, png(2), project_id="another").status_code == 201
    assert api.delete(f"{ASSETS}/{first.json()['asset_id']}").status_code == 204
    assert send(api, png(2)).status_code == 201
    assert len(stored_files(settings)) == MediaFile.objects.count() - 1


def test_an_operator_gives_a_project_a_quota_of_its_own(api: Client, settings: Any) -> None:
    """It counts in place of the service's, in both directions; with 0 nothing is taken."""
    settings.ASSET_QUOTA_BYTES = 10
    projects.change(PROJECT, budget=None, asset_quota_bytes=10**6, actor="a test", reason="")
    assert send(api, png(1)).status_code == 201
    projects.change(PROJECT, budget=None, asset_quota_bytes=100, actor="a test", reason="")
    assert send(api, png(2)).status_code == 429
    projects.change(PROJECT, budget=None, asset_quota_bytes=0, actor="a test", reason="")
    assert send(api, png(2), project_id=PROJECT).status_code == 429
    assert send(api, png(2), project_id="another").status_code == 429, "the service's own"


def test_a_form_is_read_strictly(api: Client) -> None:
    """No file, two files, a text for a file, other fields, and a bad project are refused."""

    def problems(fields: dict[str, Any]) -> set[tuple[str, str]]:
        answer = api.post(ASSETS, fields)
        assert answer.status_code == 422, answer.content
        return {(each["pointer"], each["code"]) for each in answer.json()["errors"]}

    file = lambda: SimpleUploadedFile("a.png", png())  # noqa: E731
    assert problems({"project_id": PROJECT}) == {("/file", "required")}
    assert ("/file", "required") in problems({"file": "text"})
    assert problems({"file": [file(), file()]}) == {("/file", "required")}
    assert problems({"file": file(), "purpose": "x"}) == {("/purpose", "unknown_field")}
    assert problems({"file": file()}) == {("/project_id", "required")}
    assert problems({"file": file(), "project_id": "../x"}) == {("/project_id", "bad_format")}
    assert MediaFile.objects.count() == 0


def test_a_form_without_its_end_is_refused(api: Client) -> None:
    """Django's parser takes a form that breaks off; we do not."""
    whole = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + png()
    for body in (whole, whole + b"\r\n--x"):
        answer = api.generic("POST", ASSETS, body, "multipart/form-data; boundary=x")
        assert answer.status_code == 400, answer.content
    assert MediaFile.objects.count() == 0


def test_assets_of_another_project_are_absent(api: Client) -> None:
    """A key of another project neither sees nor deletes an asset, nor makes one there."""
    asset = send(api, png()).json()
    stranger = client_of(project_id="another")
    place = f"{ASSETS}/{asset['asset_id']}"
    assert stranger.get(place).status_code == 404
    assert stranger.delete(place).status_code == 404
    assert stranger.get(ASSETS).json()["results"] == []
    assert send(stranger, png(2)).status_code == 404
    assert client_of(scopes=["read"]).get(place).status_code == 200
    assert client_of(scopes=["read"]).delete(place).status_code == 403
    assert MediaFile.objects.count() == 1


def test_every_file_of_a_task_is_an_asset(api: Client) -> None:
    """What a task made is found by its media id, with its task, its role and its time."""
    file = factories.make_media_file()
    asset = api.get(f"{ASSETS}/{file.id}").json()
    assert (asset["origin"], asset["task_id"]) == ("task", str(file.task_id))
    assert (asset["role"], asset["state"]) == ("primary", "ready")
    assert asset["expires_at"] > asset["created_at"]
    refused = api.delete(f"{ASSETS}/{file.id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")


def test_an_asset_is_deleted_unless_a_task_needs_it(api: Client, settings: Any) -> None:
    """409 while a task that has not ended names it; afterwards its row and file go."""
    asset = send(api, png()).json()
    place = f"{ASSETS}/{asset['asset_id']}"
    task = factories.make_task("queued")
    TaskInput.objects.create(task=task, name="first_frame", file_id=asset["asset_id"])
    refused = api.delete(place)
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    task.status, task.finished_at = "completed", timezone.now()
    task.save(update_fields=["status", "finished_at"])
    assert api.delete(place).status_code == 204
    assert api.get(place).status_code == api.delete(place).status_code == 404
    assert stored_files(settings) == []
    assert not default_storage.exists(f"assets/{asset['asset_id']}")


def test_assets_are_listed_in_pages(api: Client) -> None:
    """Newest first, in pages that follow one another, filtered by state, origin and time."""
    made = [factories.make_media_file().id for _ in range(3)]
    uploaded = [send(api, png(seed)).json()["asset_id"] for seed in range(2)]
    page, found = f"{ASSETS}?limit=2", []
    while page:
        answer = api.get(page).json()
        found += [row["asset_id"] for row in answer["results"]]
        page = answer["next"]
    assert found == [*reversed(uploaded), *reversed(made)]

    def ids(query: str) -> list[str]:
        return [row["asset_id"] for row in api.get(f"{ASSETS}?{query}").json()["results"]]

    assert ids("origin=task") == list(reversed(made))
    assert ids("origin=upload&state=ready") == list(reversed(uploaded))
    assert ids("state=failed") == ids("project_id=absent") == []
    assert ids("created_after=2999-01-01T00:00:00Z") == []


def test_a_presigned_upload_needs_a_bucket(api: Client) -> None:
    """Without S3 it is refused with a word on what to do; with a part missing it names that."""
    asked = {"project_id": PROJECT, "upload": "presigned", "media_type": "image/png"}
    answer = api.post(ASSETS, asked, "application/json")
    found = {(each["pointer"], each["code"]) for each in answer.json()["errors"]}
    assert (answer.status_code, found) == (
        422,
        {("/upload", "not_allowed"), ("/size_bytes", "required")},
    )
    ready = send(api, png()).json()
    refused = api.post(f"{ASSETS}/{ready['asset_id']}/complete")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_awaited")
