"""Where do the chaos runs happen? In ``var/chaos``, with fresh servers of their own."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moviesvc.run import embedded
from tests.chaos.stage import ROOT, SECRET_KEY, Stage

#: ``CHAOS_VAR`` names another place, so that two runs can happen at once.
VAR = Path(os.environ.get("CHAOS_VAR") or ROOT / "var" / "chaos").resolve()


@dataclass(frozen=True)
class Place:
    """A pair of servers for these runs, with the schema in the database."""

    var: Path
    database_url: str
    redis_url: str

    def stage(self, provider: dict[str, object], **env: str) -> Stage:
        """Return a stage for single processes."""
        urls = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url, **env}
        return Stage(self.var / "stage", provider, direct_url=self.database_url, **urls)


_begun: set[Path] = set()


def clear(var: Path) -> None:
    """Start with empty servers the first time in this process; later runs share them."""
    if var not in _begun:
        embedded.stop(var)
        shutil.rmtree(var, ignore_errors=True)
        _begun.add(var)


@contextmanager
def fresh(var: Path) -> Iterator[Place]:
    """Run servers with our tables, and stop them afterwards; logs and results stay."""
    clear(var)
    is_new = not (var / "pg").exists()
    place = Place(var, embedded.postgres(var), embedded.redis(var))
    if is_new:
        migrate(place)
    try:
        yield place
    finally:
        embedded.leave(var)


def migrate(place: Place) -> None:
    """Create the tables."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": place.database_url,
            "REDIS_URL": place.redis_url,
            "EMBEDDED": "off",
            "ENVIRONMENT": "development",
            "SECRET_KEY": SECRET_KEY,
            "VAR_DIR": str(place.var),
        },
        check=True,
        timeout=120,
    )


def machine() -> str:
    """Return one line on the hardware."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} x {cpu}, Python {platform.python_version()}"
