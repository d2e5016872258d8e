"""Are stored files served by their link, whole and in ranges, and by nothing else?"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tasks_app.media import serve
from tasks_app.models import MediaFile
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run

pytestmark = pytest.mark.django_db(transaction=True)


def test_media_link_serves_ranges_and_guards_its_token(settings: Any) -> None:
    """The whole file, a range, an impossible range and a wrong token, each answered as in HTTP."""
    settings.GENERATION_PROVIDERS = {"image_generation": "tests.support.providers.StillProvider"}
    submit(Submit("p", "image_generation", {"prompt": "x"}))
    run.run_next("image_generation")
    file = MediaFile.objects.get()
    path = serve.media_url(file).removeprefix(settings.PUBLIC_URL)
    client = Client()
    whole = client.get(path).getvalue()
    assert len(whole) == file.size_bytes
    part = client.get(path, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.getvalue()) == (206, whole[2:6])
    assert client.get(path, headers={"range": "bytes=999999-"}).status_code == 416
    assert client.get(path.replace(file.link_token, "0" * 32)).status_code == 404


@pytest.fixture
def link(settings: Any) -> str:
    """The path of a stored picture."""
    settings.GENERATION_PROVIDERS = {"image_generation": "tests.support.providers.StillProvider"}
    submit(Submit("p", "image_generation", {"prompt": "x"}))
    run.run_next("image_generation")
    return serve.media_url(MediaFile.objects.get()).removeprefix(settings.PUBLIC_URL)


@pytest.mark.parametrize(
    ("asked", "status", "length"),
    [
        ("bytes=0-0", 206, 1),
        ("bytes=-3", 206, 3),
        ("bytes=-999999999", 206, None),
        ("bytes=-0", 416, 0),
        ("bytes=5-2", 416, 0),
        ("bytes=0-" + "9" * 5_000, 200, None),
        ("bytes=" + "9" * 5_000 + "-", 200, None),
        ("bytes=-" + "9" * 5_000, 200, None),
        ("bytes=0-1,3-4", 200, None),
        ("bytes=a-b", 200, None),
        ("bytes=\u0661-", 200, None),
        ("lines=0-1", 200, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_any_range_has_an_answer(link: str, asked: str, status: int, length: int | None) -> None:
    """Ranges at both ends, none at all, nonsense, and numbers of five thousand digits."""
    answer = Client().get(link, HTTP_RANGE=asked)
    assert answer.status_code == status
    size = MediaFile.objects.get().size_bytes
    if status == 416:
        assert answer["Content-Range"] == f"bytes */{size}"
    else:
        assert len(answer.getvalue()) == (size if length is None else length)


def test_a_file_is_never_run_in_the_browser(link: str) -> None:
    """Types that could contain a script are downloads, and browsers may not guess a type."""
    for media_type, place in (
        ("image/png", "inline"),
        ("image/svg+xml", "attachment"),
        ("text/html", "attachment"),
    ):
        MediaFile.objects.update(media_type=media_type)
        answer = Client().get(link)
        assert answer["Content-Disposition"].partition(";")[0] == place
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Security-Policy"].startswith("default-src 'none'")
        answer.close()


@pytest.mark.parametrize("part", ["%00", "..", "..%2f..%2fsecret_key", "%F0%9F%98%80", "a" * 3_000])
@pytest.mark.parametrize("place", [2, 3])
def test_hostile_links_are_404(link: str, part: str, place: int) -> None:
    """The id and token in a link are no path; the last part is only a name for people."""
    parts = link.split("/")
    parts[place] = part
    answer = Client().get("/".join(parts))
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
