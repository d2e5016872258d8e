"""Do media live on a real S3 server as they do on a disk? rclone's, which checks signatures.

Its answers to ranges carry 200 where others say 206, so what counts here is Content-Range.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client

from tasks_app.assets import fetch
from tasks_app.media import mark, serve
from tasks_app.models import MediaFile, Task
from tasks_app.state.submit import Submit, submit
from tasks_app.upkeep import prune
from tasks_app.work import run
from tests.support import factories
from tests.support.ports import free_port
from tests.support.servers.programs import program
from tests.support.uploads import ASSETS, png
from tests.support.waiting import wait_until
from tests.tasks.media.test_mark import (  # noqa: F401 - fixtures, and the same tests on S3
    _fresh_process,
    finished_task,
    restored_dump,
    stored_files,
    test_a_restored_dump_deletes_nothing_of_the_first,
    test_adopting_makes_the_copy_the_owner_and_the_first_a_stranger,
    test_unmarked_files_of_somebody_else_are_left_alone,
)

pytestmark = pytest.mark.django_db(transaction=True)

#: Shorter ones are refused by rclone.
KEY, SECRET = "tkaccesskey", "tssecretkey123"
BUCKET = "media"


class S3Server:
    """rclone over a folder; `process` may be stopped and killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [*("setpriv", "--pdeathsig", "KILL"), program("rclone"), "serve", "s3"]
        command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(folder)]
        # Where its configuration would be; it has none.
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "HOME": str(folder)},
            **quiet,
        )
        wait_until(self._answers, timeout=30)

    def _answers(self) -> bool:
        with suppress(urllib.error.URLError):
            urllib.request.urlopen(self.url, timeout=5).close()
            return True
        with suppress(OSError):
            return bool(fetched(self.url)[0])
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server with an empty bucket."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / BUCKET).mkdir()
    running = S3Server(folder)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(autouse=True)
def bucket(settings: Any, server: S3Server) -> str:
    """Keep media in the bucket, below a prefix of the test's own; return that."""
    prefix = uuid.uuid4().hex
    use(settings, server.url, prefix)
    return prefix


def use(settings: Any, url: str, prefix: str, secret: str = SECRET) -> None:
    """Configure S3 as `moviesvc.settings` does."""
    settings.S3_BUCKET = BUCKET
    options = {
        "bucket_name": BUCKET,
        "location": prefix,
        "endpoint_url": url,
        "access_key": KEY,
        "secret_key": secret,
        "file_overwrite": False,
        "addressing_style": "path",
    }
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tasks_app.media.s3.S3", "OPTIONS": options},
    }


def fetched(url: str, **headers: str) -> tuple[int, Any, bytes]:
    """Get a URL as a client does: status, headers, body."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def completed(settings: Any) -> Task:
    """Submit a task and see it through."""
    settings.GENERATION_PROVIDERS = {"image_generation": "tests.support.providers.StillProvider"}
    task = submit(Submit("p", "image_generation", {"prompt": "x"})).task
    run.run_next("image_generation")
    task.refresh_from_db()
    return task


def link_of(file: MediaFile, settings: Any) -> str:
    """Follow the media link to the bucket."""
    path = serve.media_url(file).removeprefix(settings.PUBLIC_URL)
    answer = Client().get(path)
    assert answer.status_code == 302
    return str(answer["Location"])


def test_a_task_s_file_is_fetched_by_its_link(settings: Any, server: S3Server, bucket: str) -> None:
    """Stored below the prefix, signed with version 4, whole and in ranges, with our headers."""
    assert completed(settings).status == "completed"
    file = MediaFile.objects.get()
    assert (server.folder / BUCKET / bucket / file.path).is_file()
    link = link_of(file, settings)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link
    status, headers, body = fetched(link)
    assert (status, hashlib.sha256(body).hexdigest()) == (200, file.sha256)
    assert headers["Content-Type"] == "image/png"
    assert "response-content-disposition=inline" in link
    _, headers, part = fetched(link, Range="bytes=2-5")
    assert (headers["Content-Range"], part) == (f"bytes 2-5/{file.size_bytes}", body[2:6])


def test_a_link_that_was_tampered_with_is_refused(settings: Any) -> None:
    """The server checks what we signed: another type than ours is 403."""
    completed(settings)
    link = link_of(MediaFile.objects.get(), settings)
    assert fetched(link.replace("image%2Fpng", "text%2Fhtml"))[0] == 403


def test_old_files_are_pruned_below_the_prefix_alone(
    settings: Any, server: S3Server, bucket: str
) -> None:
    """Another installation's part of the bucket is neither seen nor touched."""
    finished_task(31)
    mark.require_ours()
    other = server.folder / BUCKET / "other"
    use(settings, server.url, "other")
    default_storage.save("results/x.png", ContentFile(b"x"))
    use(settings, server.url, bucket)
    assert prune.prune().files == 1
    assert not stored_files()
    assert (other / "results/x.png").is_file()


@pytest.mark.parametrize("how", ["away", "wrong secret", "no bucket"])
def test_whatever_fails_is_storage_failed_and_a_line(
    settings: Any, server: S3Server, bucket: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task is `storage_failed`, prune ends in a line without a traceback, and files stay."""
    kept = finished_task(31).files.get()
    if how == "away":
        use(settings, f"http://127.0.0.1:{free_port()}", bucket)
    elif how == "wrong secret":
        use(settings, server.url, bucket, secret="another-secret-123")
    else:
        use(settings, server.url, bucket)
        settings.STORAGES["default"]["OPTIONS"]["bucket_name"] = "absent-bucket"
    settings.TASK_RETRY_WAITS = []
    task = completed(settings)
    assert (task.status, task.error_code) == ("failed", "storage_failed")
    asked = ("--only", "media", "--reason", "a test", "--yes")
    with pytest.raises(CommandError, match=r"^Files stay: S3 "):
        call_command("prune", *asked, stdout=StringIO())
    assert MediaFile.objects.filter(pk=kept.pk).exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_bucket_that_hangs_does_not_hold_the_service(settings: Any, server: S3Server) -> None:
    """Frozen in the middle of its work, it is storage_failed as well, after the time-outs."""
    from tasks_app.media import s3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "READ_SECONDS", 0.3)
        patch.setattr(s3, "TRIES", 1)
        use(settings, server.url, "frozen")
        settings.TASK_RETRY_WAITS = []
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            assert completed(settings).error_code == "storage_failed"
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


def test_without_credentials_a_link_is_503(settings: Any, monkeypatch: Any) -> None:
    """If a link cannot be signed, the client gets a problem with Retry-After."""
    completed(settings)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    options = dict(settings.STORAGES["default"]["OPTIONS"], access_key=None, secret_key=None)
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tasks_app.media.s3.S3", "OPTIONS": options},
    }
    path = serve.media_url(MediaFile.objects.get()).removeprefix(settings.PUBLIC_URL)
    answer = Client().get(path)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer["Retry-After"]
    assert serve.foreign_origin() == ""


def test_a_presigned_upload_goes_to_the_bucket_and_is_looked_at(
    settings: Any, server: S3Server, bucket: str
) -> None:
    """The form takes exactly this file; it is an asset once a worker has decoded what came."""
    client = Client(headers={"x-api-key": factories.make_api_key(project_id="p")[1]})
    content = png()
    asked = {"upload": "presigned", "media_type": "image/png", "size_bytes": len(content)}
    asset = client.post(ASSETS, asked, "application/json").json()
    form = asset.pop("upload")
    assert (asset["state"], asset["size_bytes"]) == ("pending", None)
    assert form["url"].startswith(server.url)
    policy = json.loads(base64.b64decode(form["fields"]["policy"]))
    assert ["content-length-range", len(content), len(content)] in policy["conditions"]
    place = f"{ASSETS}/{asset['asset_id']}"
    assert client.post(f"{place}/complete").json()["state"] == "pending"
    fetch.fetch_due()
    assert client.get(place).json()["error_code"] == "upload_missing"

    asset = client.post(ASSETS, asked, "application/json").json()
    place = f"{ASSETS}/{asset['asset_id']}"
    key = asset["upload"]["fields"]["key"]
    assert key == f"{bucket}/uploads/{asset['asset_id']}"
    default_storage.save(key.removeprefix(f"{bucket}/"), ContentFile(content))
    assert client.post(f"{place}/complete").status_code == 200
    assert client.post(f"{place}/complete").status_code == 409
    fetch.fetch_due()
    ready = client.get(place).json()
    assert (ready["state"], ready["sha256"]) == ("ready", hashlib.sha256(content).hexdigest())
    assert not default_storage.exists(f"uploads/{asset['asset_id']}")
    file = MediaFile.objects.get(pk=asset["asset_id"])
    assert fetched(link_of(file, settings))[2] == content
    assert client.delete(place).status_code == 204
    assert not default_storage.exists(file.path)
