"""Probing believes content only: not names, not headers, not requests."""

import os
import signal
import threading

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from tasks_app.media import probe
from tasks_app.providers.base import Cancelled, ProviderError
from tasks_app.providers.previz.sound import soundfile
from tests.support.family import matching
from tests.support.previz_runs import RecordingContext
from tests.support.waiting import wait_until


@pytest.fixture
def film(tmp_path):
    """A real one-second film of 64x48 at 24 frames a second."""
    path = tmp_path / "film.bin"
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(1)
        for _ in range(24):
            pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_film_is_described_by_its_content(film):
    """Proves that type, size, length and codec come from decoding, whatever the name says."""
    found = probe.probe(film)
    assert (found.media_type, found.codecs) == ("video/mp4", ("h264",))
    assert (found.width, found.height, found.fps) == (64, 48, 24.0)
    assert found.duration == pytest.approx(1.0, abs=1 / 24)
    assert (found.size_bytes, len(found.sha256)) == (film.stat().st_size, 64)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8])
def test_truncated_film_is_refused(film, kept):
    """Proves that a download cut short never counts as media, and may be tried again."""
    whole = film.read_bytes()
    film.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ProviderError) as caught:
        probe.probe(film)
    assert (caught.value.code, caught.value.retryable) == ("output_invalid", True)


def test_truncated_sound_is_refused(tmp_path):
    """Proves that a sound shorter than its own header says is refused though all of it decodes."""
    path = tmp_path / "sound.flac"
    samples = np.random.default_rng(1).normal(0, 0.2, (48000, 1)).astype(np.float32)
    soundfile.write(path, samples, 48000, "flac", {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ProviderError, match="output_invalid"):
        probe.probe(path)


def test_truncated_picture_is_refused(tmp_path):
    """Proves that half a PNG is refused although its header is complete."""
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(ProviderError):
        probe.probe(path)


@pytest.mark.parametrize(
    "expected",
    [
        probe.Expected(codecs=("hevc",)),
        probe.Expected(duration=1.5),
        probe.Expected(width=66),
        probe.Expected(media_type="audio/mp4"),
    ],
)
def test_other_than_expected_is_refused(film, expected):
    """Proves that a whole file of the wrong codec, length, size or type is refused."""
    with pytest.raises(ProviderError, match="output_invalid"):
        probe.probe(film, expected)


def test_text_and_playlists_are_no_media(tmp_path):
    """Proves that a playlist is refused, so that no file it names is ever opened."""
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/hostname\n")
    with pytest.raises(ProviderError):
        probe.probe(path)


def probes() -> list[psutil.Process]:
    """Return the running probe processes of this test process."""
    children = psutil.Process().children()
    return matching(children, lambda child: "tasks_app.media.probe" in child.cmdline())


def test_a_slow_machine_is_no_fault_of_the_file(film, monkeypatch):
    """Proves that a probe which got no processor at all is repeated with the same file."""
    monkeypatch.setattr(probe, "CPU_SECONDS", 1)
    monkeypatch.setattr(probe, "CLOCK_FACTOR", 2)
    stopped = []

    def starve_the_first() -> None:
        stopped.append(wait_until(probes)[0].pid)
        os.kill(stopped[0], signal.SIGSTOP)

    thread = threading.Thread(target=starve_the_first)
    thread.start()
    monkeypatch.setattr(probe, "TRIES", 4)  # whatever else this machine has to do
    assert probe.probe(film).codecs == ("h264",)
    thread.join()
    assert stopped
    assert not psutil.pid_exists(stopped[0])


def test_what_needs_more_time_than_there_is_has_a_code_of_its_own(tmp_path, monkeypatch):
    """Proves that eight sparse gigabytes, too large to read in a second, are not a bad file."""
    monkeypatch.setattr(probe, "CPU_SECONDS", 1)
    monkeypatch.setattr(probe, "TRIES", 1)
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 8 << 30)
    with pytest.raises(ProviderError) as caught:
        probe.probe(path)
    assert (caught.value.code, caught.value.retryable) == ("probe_timed_out", False)


def test_a_probe_ends_when_it_is_not_wanted_any_more(tmp_path):
    """Proves that a cancel does not wait for a long probe, and leaves no process running."""
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 8 << 30)
    context = RecordingContext()
    context.is_cancelled = True
    with pytest.raises(Cancelled):
        probe.probe(path, context=context)
    assert not probes()
