"""Which PostgreSQL and Redis do the tests use? Their own, whatever the environment says.

Loaded by `-p tests.support.embedded_plugin`, before pytest-django reads the settings, in the
controller and in each of its processes. Each process has its own database (named by pytest-django),
Redis database and state directory (with the metrics files). The last process to end stops the
servers.
"""

import os
import sys

import pytest

from moviesvc.run import embedded
from tests import ROOT

VAR = ROOT / "var" / "test"


def _process_index() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _use_test_servers() -> None:
    for name in [key for key in os.environ if key.startswith(("PG", "WEBHOOK", "TASK_"))]:
        del os.environ[name]
    os.environ |= {
        "DATABASE_URL": embedded.postgres(VAR, is_durable=False),
        "REDIS_URL": embedded.redis(VAR, db=_process_index() + 1),
        "VAR_DIR": str(VAR / f"process-{_process_index()}"),
        "EMBEDDED": "off",  # for child processes: the URLs are all they need
        "ENVIRONMENT": "development",
        "SECRET_KEY": "a key that only the tests use",
    }
    # Compiled files are written once, instead of in each of the hundreds of started processes;
    # so are the test modules, which pytest compiles itself: half of what collecting costs.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for name in ("PUBLIC_URL", "ALLOWED_HOSTS", "PORT", "HOST", "DJANGO_SETTINGS_MODULE"):
        os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    embedded.leave(VAR)


_use_test_servers()
