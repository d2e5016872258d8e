"""How is one picture written to a file, with the PREVIZ mark inside?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tasks_app.providers.previz.drawing.canvas import Array

TINTED = {"noir": (0.985, 0.995, 1.0), "storyboard": (1.0, 0.98, 0.94), "pencil": (1.0, 0.98, 0.94)}
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
NOTE = "PREVIZ"
DESCRIPTION_TAG, SOFTWARE_TAG = 0x010E, 0x0131  # TIFF 6.0, ImageDescription and Software


def size_of(resolution: str) -> tuple[int, int]:
    """Return width and height of a resolution such as 1920x1080."""
    width, height = map(int, resolution.split("x"))
    return width, height


def within(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return the size scaled down, never up, so that no side exceeds ``longest``."""
    factor = min(1.0, longest / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def as_picture(pixels: Array, style: str) -> Image.Image:
    """Return a BGRA buffer as an RGB picture, in the tint that the style has on film."""
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 2::-1]), "RGB")
    if style not in TINTED:
        return picture
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    return Image.fromarray((grey * np.array(TINTED[style])).astype(np.uint8), "RGB")


def save(picture: Image.Image, path: Path, kind: str, quality: int, title: str) -> None:
    """Write ``picture`` as png, jpeg or webp, marked in its metadata."""
    text = f"{NOTE}: {title[:500]}"
    if kind == "png":
        marks = PngImagePlugin.PngInfo()
        marks.add_itxt("Description", text)
        picture.save(path, "PNG", pnginfo=marks, compress_level=3)
        return
    exif = Image.Exif()
    exif[DESCRIPTION_TAG] = text.encode("ascii", "replace").decode()
    exif[SOFTWARE_TAG] = NOTE
    more: dict[str, Any] = {"method": 2} if kind == "webp" else {"progressive": True}
    picture.save(path, kind.upper(), quality=quality, exif=exif, **more)


def save_last_frame(film: Path, path: Path) -> None:
    """Write the last frame of a finished film, as a player shows it, so that another can go on."""
    import av

    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        container.seek(stream.duration or 0, stream=stream)  # the last key frame
        last: Any = None
        for frame in container.decode(stream):
            last = frame
    save(last.to_image(), path, "png", 0, NOTE)


def save_posters(pixels: Array, style: str, work_dir: Path, size: tuple[int, int]) -> None:
    """Write poster.jpg, of the film's ``size``, and thumbnail.jpg of one frame."""
    picture = as_picture(pixels, style)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    save(picture, work_dir / "poster.jpg", "jpeg", 90, NOTE)
    small = picture.resize(within(*size, 640), Image.Resampling.LANCZOS)
    save(small, work_dir / "thumbnail.jpg", "jpeg", 85, NOTE)
