"""What does a first start leave behind? The same each time, so it is made once and copied.

A migrated database and the compressed static files; no key, no login, no secret.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from moviesvc.run import embedded
from moviesvc.run.daemons import locked
from tests import ROOT

VAR = ROOT / "var" / "test"
_MADE = VAR / f"first-start-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
_PREPARE = """
import django; django.setup()
from moviesvc.management.commands import run
run.call_command("migrate", interactive=False, verbosity=0)
run._collect_static()
"""


def copy(var: Path) -> None:
    """Copy the state after a first start to ``var``; all servers are stopped."""
    VAR.mkdir(parents=True, exist_ok=True)
    with locked(VAR / ".first-start.lock"):
        if not _MADE.exists():
            _make()
    var.mkdir(mode=0o700, parents=True)
    for part in ("pg", "static"):
        subprocess.run(["cp", "-a", str(_MADE / part), str(var)], check=True)


def _make() -> None:
    for old in VAR.glob("first-start-*"):
        subprocess.run(["rm", "-rf", str(old)], check=True)
    place = _MADE.with_name("first-start-unfinished")
    told = {
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
        "DATABASE_URL": embedded.postgres(place),
        "REDIS_URL": "redis://localhost",  # not used
        "ENVIRONMENT": "development",
        "EMBEDDED": "off",
        "VAR_DIR": str(place),
    }
    environment = os.environ | told
    subprocess.run([sys.executable, "-c", _PREPARE], cwd=ROOT, env=environment, check=True)
    embedded.leave(place)
    place.rename(_MADE)
