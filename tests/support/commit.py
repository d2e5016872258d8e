"""Which version of the code does a long run test?"""

from __future__ import annotations

import shutil
import subprocess

from tests import ROOT


def current() -> str:
    """Return the commit, with a mark when files differ from it; nothing outside of a clone."""
    if not shutil.which("git"):
        return ""
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+changes" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
