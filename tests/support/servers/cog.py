"""How does a real Cog server run here? From its packages, without Docker, with a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.family import family, kill
from tests.support.ports import free_port
from tests.support.servers.programs import COG
from tests.support.waiting import wait_until

MODEL = ROOT / "tests/foreign/cog_model"


class CogServer:
    """The server; a context manager. ``folder`` is where its model notes its runs."""

    def __init__(self, folder: Path) -> None:
        if not list(COG.folder.parent.glob("lib/*/site-packages/coglet")):
            pytest.skip(f"no Cog here; install it with: {COG.how}")
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> CogServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it takes work."""
        # It starts a bare "python", which must be its own, and reads its code from a module.
        place = {"PATH": f"{COG.folder}:{os.defpath}", "PORT": str(self.port), "HOME": "/tmp"}
        model = {"COG_PREDICT_TYPE_STUB": "predict.py:Painter", "MODEL_FOLDER": str(self.folder)}
        command = [*("setpriv", "--pdeathsig", "KILL"), str(COG.folder / "python")]
        command += ["-m", "cog.server.http", "--host", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=MODEL,
                env={**place, **model, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self.health() == "READY", 60, self.log)

    def kill(self) -> None:
        """End it and its model at once, as a power cut does."""
        if self.process.poll() is None:
            kill(family(self.process.pid))
        self.process.wait(20)

    def health(self) -> str:
        """Return what it says of itself: READY, BUSY ...; empty while it does not answer."""
        with suppress(OSError), urllib.request.urlopen(self.url + "/health-check", timeout=5) as at:
            return str(json.load(at)["status"])
        return ""

    def log(self) -> str:
        """Return the end of what it printed."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def runs(self, prompt: str) -> int:
        """Return how often the model was run with a prompt: what would have been paid."""
        path = self.folder / "runs"
        return path.read_text().splitlines().count(prompt) if path.exists() else 0

    def let_go(self) -> None:
        """Let the runs that wait be made."""
        (self.folder / "go").touch()

    def hold(self) -> None:
        """Let runs wait again."""
        (self.folder / "go").unlink(missing_ok=True)
