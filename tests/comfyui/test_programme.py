"""Does the programme for real servers work? Against two stand-ins, each a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]


class Server:
    """A stand-in as a process, on a port that it keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        module = "tests.support.servers.comfyui"
        arguments = ["--port", str(self.port), "--folder", str(self.folder), "--seconds", "0.3"]
        self.process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Server]]:
    """Two servers that take a third of a second for each node."""
    with ExitStack() as stack:
        found = {name: Server(tmp_path / name) for name in ("gpu-a", "gpu-b")}
        for server in found.values():
            server.start()
            stack.callback(server.kill)
        yield found


def test_the_programme_proves_a_pool(servers: dict[str, Server], tmp_path: Path) -> None:
    """Over API and webhook every step succeeds; the killed server's task goes to the other one."""
    urls = [f"{name}=http://127.0.0.1:{each.port}" for name, each in servers.items()]
    own = {"COMFYUI_URLS": ",".join(urls), "COMFYUI_VAR": str(tmp_path / "var")}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL", "EMBEDDED", "SECRET_KEY", "VAR_DIR")
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        programme = subprocess.Popen(
            [sys.executable, "-m", "tests.comfyui"],
            cwd=ROOT,
            env={**kept, **own, "COMFYUI_LOST_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        for word in ("KILL", "START"):
            name = _asked(word, log, programme)
            getattr(servers[name], word.lower())()
        assert programme.wait(60) == 0, log.read_text()
    finally:
        if programme.poll() is None:
            programme.terminate()
            programme.wait(60)
    text = log.read_text()
    assert re.findall(r"  ok    (\w+)", text) == [
        *("check", "still", "upload", "film", "refusal", "cancel", "kill")
    ]
    [killed] = re.findall(r"KILL (\S+) now", text)
    [maker] = re.findall(r"made by (\S+)", text)
    assert {killed, maker} == set(servers)


def _asked(word: str, log: Path, programme: subprocess.Popen[bytes]) -> str:
    """Wait until the programme asks for something to be done to a server; return its name."""

    def found() -> str:
        assert programme.poll() is None, log.read_text()
        names = re.findall(rf"{word} (gpu-\w)", log.read_text())
        return names[0] if names else ""

    return wait_until(found, 240, log.read_text)


def test_without_addresses_it_says_what_it_needs() -> None:
    """Without COMFYUI_URLS nothing is started, and the usage is shown."""
    bare = {name: value for name, value in os.environ.items() if name != "COMFYUI_URLS"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.comfyui"],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "COMFYUI_URLS=" in done.stdout
