"""What does the Cog server of the tests run? A model without weights: pictures of noise.

Every run is noted in the file ``runs``, so that a test sees what would have been paid. A prompt
that begins with "wait" is made once a file ``go`` is there; "fail" is never made.
"""

import os
import struct
import threading
import zlib
from pathlib import Path

import cog

FOLDER = Path(os.environ["MODEL_FOLDER"])


class Painter(cog.BasePredictor):
    """The model."""

    def predict(self, prompt: str, side: int = 8) -> cog.Path:
        """Return a PNG of ``side`` pixels, each of three random bytes."""
        with (FOLDER / "runs").open("a") as runs:
            runs.write(prompt + "\n")
        while prompt.startswith("wait") and not (FOLDER / "go").exists():
            threading.Event().wait(0.02)
        if prompt == "fail":
            raise ValueError("no such colour")
        rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
        path = FOLDER / "out.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 0))
            + chunk(b"IEND", b"")
        )
        return cog.Path(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
