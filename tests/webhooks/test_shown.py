"""What is shown of URLs and of receivers' bytes, in logs and on pages."""

from __future__ import annotations

import json

import pytest

from tests import ROOT
from webhooks_app.shown import printable, safe_url, visible

CASES = json.loads((ROOT / "tests/vectors" / "ssrf_cases.json").read_text())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:secret@example.com/p?token=secret&flag", "https://example.com/p?token=***&***"),
        ("HTTPS://example.com", "https://example.com"),
        ("https://example.com/user@host", "https://example.com/user@host"),
        ("https://a\\secret@b/x", "https://b/x"),
        ("https://example.com/a\x1b[31m\nb", "https://example.com/a?[31m?b"),
        ("https://example.com/#secret", "https://example.com/"),
        ("https:secret@host", "<unreadable url>"),
        ("https:///secret@host/", "<unreadable url>"),
        ("", "<unreadable url>"),
    ],
)
def test_safe_url_hides_what_may_be_secret(url, shown):
    """Proves that neither user info nor query values nor control characters reach a log."""
    assert safe_url(url) == shown


def test_safe_url_takes_every_case_of_the_corpus():
    """Proves that showing a URL never fails, however broken the URL is."""
    for case in CASES:
        shown = safe_url(case["url"])
        assert shown.isascii()
        assert shown.isprintable()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (None, ""),
        ("two\n\tlines, ünd 🎬", "two\n\tlines, ünd 🎬"),
        (b"\x00\x1b[31m\x7f\r", "␀␛[31m␡␍"),
        (memoryview(b"\xff\xfe"), "\\xff\\xfe"),
        ("left\u202eright", "left⟨U+202E⟩right"),
        ("zero\u200bwidth\u2028line\ue000", "zero⟨U+200B⟩width⟨U+2028⟩line⟨U+E000⟩"),
    ],
)
def test_nothing_hides_in_what_a_receiver_sent(sent, shown):
    """Proves that control characters, overrides and broken bytes are seen as what they are."""
    assert visible(sent) == shown


def test_what_is_stored_has_no_control_characters_and_an_end():
    """Proves that a receiver's text is cut, and cannot steer a terminal."""
    assert printable("a\x1b[31m\x9fb" + "c" * 9, limit=8) == "a?[31m?b"
