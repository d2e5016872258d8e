"""Guarded downloads: whole or not at all, and under the same policy as a webhook."""

from pathlib import Path

import pytest
from django.test import override_settings

from tests.support import answers
from tests.support.answers import Answer
from tests.support.receiver import Receiver
from tests.support.running import download


@pytest.fixture(autouse=True)
def _loopback_allowed():
    """Plain http to 127.0.0.1."""
    with override_settings(WEBHOOKS={"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}):
        yield


def test_download_is_kept_in_memory_or_written_to_a_file(tmp_path):
    """Proves both ways of a guarded download."""
    with Receiver([Answer(body=b"media" * 1000)]) as receiver:
        kept = download(receiver.url, max_bytes=10_000, timeout=10)
        path = tmp_path / "media.bin"
        stored = download(receiver.url, max_bytes=10_000, timeout=10, to=path)
    assert (kept.status, kept.body, kept.size) == (200, b"media" * 1000, 5000)
    assert kept.headers["content-length"] == "5000"
    assert (stored.body, path.read_bytes()) == (b"", kept.body)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answers.endless_body(), "too_large"),
        (answers.drip_body(), "timeout"),
        (answers.length_lie(), "protocol"),
        (answers.reset(), "reset"),
    ],
)
def test_incomplete_download_leaves_no_file(answer, code, tmp_path):
    """Proves that a file exists only when all of it came."""
    path: Path = tmp_path / "media.bin"
    with Receiver([answer]) as receiver:
        limit = 0.4 if code == "timeout" else 10
        result = download(receiver.url, max_bytes=100_000, timeout=limit, to=path)
    assert result.error_code == code
    assert not path.exists()


def test_download_from_a_denied_address_is_refused():
    """Proves that a download obeys the same policy, redirects included."""
    with Receiver() as inner, Receiver([answers.redirect(inner.url)]) as receiver:
        assert download(receiver.url, max_bytes=9, timeout=10).status == 302
        with override_settings(WEBHOOKS={"REQUIRE_HTTPS": False}):
            result = download(receiver.url, max_bytes=9, timeout=10)
        assert (result.error_code, inner.connections) == ("blocked_address", 0)
