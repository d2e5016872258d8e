"""What may be shown of a URL, or of the bytes that a receiver sent?

`safe_url` for logs and pages, `visible` for pages, `printable` for what is stored and logged.
None of them escapes HTML: that is the template's business.
"""

from __future__ import annotations

import re
import unicodedata

#: More of a text that claims to be a URL is not looked at; twice the longest that is accepted.
LONGEST_URL = 4096
_READABLE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,15})://(?P<authority>[^/?#\\]+)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def safe_url(url: str) -> str:
    """Return a URL for logs and error texts: no user info, query values as ``***``.

    Takes any text, valid or not, and never raises; characters that are not printable ASCII
    become ``?``.
    """
    match = _READABLE.fullmatch(url[:LONGEST_URL])
    if match is None:
        return "<unreadable url>"
    # Everything before the last @ may be a password, even where a lax parser ends the host earlier.
    authority, _, path = (match["authority"] + match["path"]).partition("/")
    shown = f"{match['scheme'].lower()}://{authority.rpartition('@')[2]}"
    if path or match["path"].startswith("/"):
        shown += "/" + path
    if match["query"] is not None:
        shown += "?" + "&".join(_masked(pair) for pair in match["query"].split("&"))
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in shown)


def _masked(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    # A query part without "=" may itself be a token.
    return f"{name}=***" if equals else "***"


def printable(text: str, limit: int = 2048) -> str:
    """Return a receiver's text without control characters, cut to ``limit`` characters."""
    return _CONTROL.sub("?", text[:limit])


def visible(data: bytes | str | memoryview | None) -> str:
    """Return text in which nothing hides: control and formatting characters become pictures.

    Bytes that are not UTF-8 are shown as ``\\xNN``; NUL as ``␀``; others as ``⟨U+202E⟩``.
    """
    if data is None:
        return ""
    text = data if isinstance(data, str) else bytes(data).decode("utf-8", "backslashreplace")
    return "".join(map(_picture, text))


def _picture(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or 31 < code < 127:
        return character
    if code < 32:
        return chr(0x2400 + code)
    if code == 127:
        return "\u2421"
    # Cc, Cf (bidirectional overrides, zero widths), Cs, Co, Cn; and the line separators.
    if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029":
        return f"⟨U+{code:04X}⟩"
    return character
