"""Are stored files served by their link, whole and in ranges, and by nothing else?"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tasks_app import lifecycle, media, runner
from tasks_app.models import MediaFile

pytestmark = pytest.mark.django_db(transaction=True)


def test_media_link_serves_ranges_and_guards_its_token(settings: Any) -> None:
    """The whole file, a range, an impossible range and a wrong token, each as HTTP has it."""
    settings.GENERATION_PROVIDERS = {"image_generation": "tests.providers.StillProvider"}
    lifecycle.submit(lifecycle.Submit("p", "image_generation", {"prompt": "x"}))
    runner.run_next("image_generation")
    file = MediaFile.objects.get()
    path = media.media_url(file).removeprefix(settings.PUBLIC_URL)
    client = Client()
    whole = client.get(path).getvalue()
    assert len(whole) == file.size_bytes
    part = client.get(path, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.getvalue()) == (206, whole[2:6])
    assert client.get(path, headers={"range": "bytes=999999-"}).status_code == 416
    assert client.get(path.replace(file.link_token, "0" * 32)).status_code == 404
