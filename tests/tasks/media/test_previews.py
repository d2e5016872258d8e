"""Is only a bounded picture kept of what a server sends, without anything that is no picture?"""

import io

import pytest
from PIL import Image, PngImagePlugin

from tasks_app.media.previews import MAX_BYTES, MAX_SIDE, plain_picture

SECRET = "a secret prompt"
BOUND = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


def drawn(kind, size=(64, 36), mode="RGB", **how):
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(file, kind, **how)
    return file.getvalue()


def with_texts():
    """Return a PNG that holds its workflow in each way that Pillow can write."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", SECRET)
    texts.add_itxt("workflow", SECRET)
    return drawn("PNG", pnginfo=texts)


@pytest.mark.parametrize(
    "content",
    [
        drawn("PNG"),
        drawn("PNG", mode="P", transparency=0),
        with_texts(),
        drawn("JPEG"),
        drawn("JPEG", progressive=True),
        drawn("JPEG", mode="CMYK"),
        drawn("JPEG", comment=SECRET.encode(), exif=b"Exif\0\0" + SECRET.encode()),
        drawn("JPEG") + SECRET.encode(),
        drawn("PNG") + SECRET.encode(),
    ],
)
def test_a_picture_is_kept_pixel_by_pixel_without_words(content):
    """Proves that what a browser shows is the same, and no text of the server is in it."""
    kept = plain_picture(content)
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(kept)) as after:
        assert after.format == before.format
        assert after.convert("RGB").tobytes() == before.convert("RGB").tobytes()
    assert SECRET.encode() not in kept


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"preview",
        b"<svg/>",
        drawn("GIF"),
        drawn("WEBP"),
        drawn("PNG", (MAX_SIDE + 1, 1)),
        drawn("JPEG", (1, MAX_SIDE + 1)),
        drawn("PNG") + bytes(MAX_BYTES),
        drawn("PNG")[:8] + drawn("PNG")[33:],  # without its header
        drawn("PNG")[:33] * 2,
        drawn("PNG")[:-12],  # without its end
        b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIHDR" + bytes(30),
        drawn("JPEG")[:-2],
        BOUND,
        BOUND + b"\xff\xd9",
        BOUND + b"\xff\xda\x00\x02\xff\xd9",  # without a size
        b"\xff\xd8\xff\xe0\x00\x00" * 20,
        b"\xff\xd8" + b"\xff" * 200,
    ],
    ids=range(18),
)
def test_what_is_no_such_picture_is_not_kept(content):
    """Proves that another format, too large a side, or a cut picture is none."""
    assert plain_picture(content) is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_no_cut_or_changed_byte_is_an_error(kind):
    """Proves that whatever a server sends, taking it apart ends."""
    content = drawn(kind, (8, 8))
    for place in range(len(content)):
        assert plain_picture(content[:place]) is None
        for value in (0x00, 0xFF):
            plain_picture(content[:place] + bytes([value]) + content[place + 1 :])
