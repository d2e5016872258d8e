"""The built-in renderer makes real, whole media of every kind it promises."""

import os
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from tasks_app.providers.previz.drawing import overlay
from tasks_app.providers.previz.provider import PrevizProvider
from tasks_app.providers.previz.script.breakdown import break_down
from tasks_app.providers.previz.sound import soundfile
from tests import ROOT
from tests.support.previz_runs import RecordingContext, job, video


def generate(work_dir, task_type, task_data):
    work_dir.mkdir(exist_ok=True)
    return PrevizProvider().generate(job(work_dir, task_type, task_data), RecordingContext())


def test_film_is_as_long_and_large_as_asked(tmp_path):
    """Proves that the probed film, not the request, has the asked size, length and codecs."""
    context = RecordingContext()
    result = PrevizProvider().generate(job(tmp_path, "video_generation", video(1.5)), context)
    film = result.primary
    assert (film.media_type, film.codecs) == ("video/mp4", ("h264", "aac"))
    assert (film.width, film.height, film.fps) == (320, 180, 24.0)
    assert film.duration == pytest.approx(1.5, abs=1 / 24)
    assert {output.role for output in result.files} == {"primary", "thumbnail", "poster"}
    fractions = [fraction for fraction, _ in context.steps]
    assert fractions == sorted(fractions)


def test_the_last_frame_is_the_films_last(tmp_path):
    """Proves that a task which asks for it gets the picture on which the film ends."""
    result = generate(tmp_path, "video_generation", video(1.0, last_frame=True))
    (still,) = (output for output in result.files if output.role == "last_frame")
    assert (still.media_type, still.width, still.height) == ("image/png", 320, 180)
    with av.open(str(result.primary.path)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    kept = np.asarray(Image.open(still.path).convert("RGB"))
    assert np.array_equal(kept, np.asarray(frames[-1]))
    assert not np.array_equal(kept, np.asarray(frames[-3]))


def test_film_starts_before_it_is_downloaded(tmp_path):
    """Proves that the index (moov) lies before the media (mdat)."""
    film = generate(tmp_path, "video_generation", video(1.0)).primary.path.read_bytes()
    assert 0 < film.index(b"moov") < film.index(b"mdat")


def test_same_seed_gives_the_same_bytes(tmp_path):
    """Proves that a seed decides everything on one machine, and that it is echoed."""
    task_data = {**video(1.0), "seed": 7}
    first = generate(tmp_path / "a", "video_generation", task_data)
    again = generate(tmp_path / "b", "video_generation", task_data)
    assert first.seed == 7
    assert first.primary.sha256 == again.primary.sha256


#: Two short films, of squares that drift below a changing one; prints the digest of both.
DRIFT = """
import hashlib, sys
from pathlib import Path
import numpy as np
from tasks_app.providers.previz.output.film import write_film
def drawn(width, height):
    rng = np.random.default_rng(9)
    small = rng.integers(0, 255, ((height + 80) // 8 + 1, (width + 80) // 8 + 1, 4), np.uint8)
    squares = np.kron(small, np.ones((8, 8, 1), np.uint8))
    for n in range(9):
        frame = squares[n : n + height, 3 * n : 3 * n + width].copy()
        left = 7 * n % (width // 2)
        frame[height // 4 : height // 2, left : left + width // 4] = rng.integers(0, 255)
        yield frame
for size in ((64, 64), (320, 180)):
    path, sound = Path(sys.argv[1]), np.zeros((4800, 2), np.float32)
    ignore = lambda frame, number: None
    write_film(path, drawn(*size), ignore, sound, size=size, fps=24, quality="final", tags={})
    print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_what_memory_held_before_is_not_in_a_film(tmp_path):
    """Proves that two processes make the same bytes, whatever their memory is filled with."""
    made = [
        subprocess.run(
            [sys.executable, "-c", DRIFT, tmp_path / "film.mp4"],
            cwd=ROOT,
            env={**os.environ, "MALLOC_PERTURB_": filling},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()
        for filling in ("85", "170")
    ]
    assert len(made[0]) == 2
    assert made[0] == made[1]


def test_dialogue_and_monochrome_style_are_rendered(tmp_path):
    """Proves that a portrait noir film with a spoken line comes out whole."""
    task_data = video(1.0, "180x320", style="noir", camera="pan_left")
    task_data["scene_data"]["dialogue"] = [{"character": "Old man", "text": "Wait.", "start_s": 0}]
    result = generate(tmp_path, "video_generation", task_data)
    assert result.metadata["sound"]["voices"][0]["voice"] == "old"


@pytest.mark.parametrize(
    ("kind", "purpose", "media_type"),
    [
        ("png", "concept_art", "image/png"),
        ("jpeg", "character_design", "image/jpeg"),
        ("webp", "storyboard_frame", "image/webp"),
    ],
)
def test_pictures_of_every_format_are_whole(tmp_path, kind, purpose, media_type):
    """Proves that each format and purpose gives as many sound pictures as asked."""
    task_data = {
        "image_data": {"prompt": "a man in a desert", "purpose": purpose},
        "image_params": {"resolution": "320x256", "format": kind, "count": 2},
    }
    result = generate(tmp_path, "image_generation", task_data)
    assert [output.role for output in result.files] == ["primary", "primary_2"]
    assert {output.media_type for output in result.files} == {media_type}
    assert {(output.width, output.height) for output in result.files} == {(320, 256)}
    with Image.open(result.primary.path) as picture:
        corner = np.asarray(picture.convert("L").crop((270, 240, 320, 256)), np.int16)
    assert corner.max() - corner.min() > 90


def test_picture_shows_that_it_is_previz():
    """Proves that the mark is drawn, readable, into the lower right corner alone."""
    pixels = np.full((256, 320, 4), 200, np.uint8)
    overlay.mark(pixels)
    rows, columns = np.nonzero((pixels[..., :3] != 200).any(axis=2))
    assert rows.min() > 230
    assert columns.min() > 240


@pytest.mark.parametrize(
    ("kind", "rate"),
    [("wav", 48000), *((kind, 22050) for kind in ("wav", "mp3", "m4a", "ogg", "flac"))],
)
def test_sound_of_every_format_lasts_as_asked(tmp_path, kind, rate):
    """Proves that a scene's sound has the asked length in each container."""
    task_data = {
        "audio_data": {"prompt": "rain in a forest"},
        "audio_params": {"format": kind, "sample_rate_hz": rate, "duration_s": 1.5},
    }
    result = generate(tmp_path, "audio_generation", task_data)
    assert result.primary.duration == pytest.approx(1.5, abs=0.06)
    assert {output.role for output in result.files} == {"primary", "waveform"}


@pytest.mark.parametrize("kind", soundfile.FORMATS)
def test_same_samples_give_the_same_bytes(tmp_path, kind):
    """Proves that no container writes a number drawn by lot or a time of day into the file."""
    samples = np.sin(np.arange(24000, dtype=np.float32) / 20)[:, None]
    for name in ("first", "again"):
        soundfile.write(tmp_path / name, samples, 48000, kind, {"title": "A tone"})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize("voice", ["narrator_female", "deep_male", "old"])
def test_voice_speaks_at_the_asked_loudness(tmp_path, voice):
    """Proves that speech comes out audible and within a unit of the target."""
    task_data = {"audio_data": {"text": "Nobody leaves this room.", "voice": voice}}
    result = generate(tmp_path, "audio_generation", task_data)
    assert result.primary.duration > 0.8
    assert result.metadata["loudness_lufs"] == pytest.approx(-16, abs=1)


def test_breakdown_says_what_it_ignored():
    """Proves that a word without a picture is named, and that the others are told apart."""
    plan = break_down("A detective juggles in a kitchen at night")
    assert set(plan.ignored) == {"juggles"}
    assert set(plan.understood) == {"detective", "kitchen", "night"}


@pytest.mark.parametrize(
    ("task_type", "task_data", "pointer", "code"),
    [
        (
            "video_generation",
            {"video_params": {"resolution": "3840x2160"}},
            "/task_data/video_params/resolution",
            "unsupported_by_provider",
        ),
        (
            "video_generation",
            {"video_params": {"duration_s": 16}},
            "/task_data/video_params/duration_s",
            "unsupported_by_provider",
        ),
        (
            "audio_generation",
            {"audio_data": {"text": "Hallo", "language": "de-DE"}},
            "/task_data/audio_data/language",
            "unsupported_language",
        ),
    ],
)
def test_limits_are_told_at_submit_time(task_type, task_data, pointer, code):
    """Proves that what previz cannot make is refused with a pointer, before any render."""
    (error,) = PrevizProvider().validate(task_type, task_data)
    assert (error.pointer, error.code) == (pointer, code)
