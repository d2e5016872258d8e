"""Is a worker with much work at a provider stopped in time, and at what cost in connections?"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tasks_app.models import RemoteJob, Task
from tasks_app.remote_work.loop import STOP_SECONDS
from tasks_app.state.submit import Submit, submit
from tests.support.fake_provider import FakeProvider, Reply
from tests.support.processes import running
from tests.support.remote_work import CREATE, GET, KEY, MODEL, TASK, TYPE, good_run
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

JOBS = 40
#: The worker's threads, its loop, sweep and watch of looks, and the engine's.
MOST_CONNECTIONS = 12
WORKER = ("manage.py", "rundramatiq", "--skip-logging", "-p", "1", "-t", "3")


def connections() -> int:
    """Return how many sessions others have on this test's database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def test_sigterm_with_work_at_a_provider_pays_nothing_twice(tmp_path: Path) -> None:
    """An open submit is waited for, the jobs are given back, and the next worker ends them."""
    with FakeProvider() as fake:
        provider: dict[str, Any] = {"provider": "replicate"}
        provider["options"] = {"model": MODEL, "poll_seconds": 0.2}
        environment = {
            "GENERATION_PROVIDERS": json.dumps({TYPE: provider}),
            "REPLICATE_BASE_URL": fake.url,
            "REPLICATE_API_TOKEN": KEY,
            "PROVIDER_ALLOW_NETWORKS": "127.0.0.0/8",
            "MEDIA_ROOT": str(tmp_path / "media"),
            "WORK_ROOT": str(tmp_path / "work"),
            "METRICS_DIR": str(tmp_path / "metrics"),
        }
        fake.script = good_run(fake.url)
        fake.script[GET] = [{"status": "processing"}]
        created = json.dumps({"id": "p1", "status": "starting"}).encode()
        for _ in range(JOBS):
            submit(Submit("p", TYPE, TASK))
        with running(tmp_path / "log", *WORKER, **environment) as worker:
            is_there = RemoteJob.objects.filter(state="running").count
            wait_until(lambda: is_there() == JOBS, 90, (tmp_path / "log").read_text)
            assert connections() <= MOST_CONNECTIONS
            fake.script[CREATE] = [Reply(body=created, delay=2.0)]
            submit(Submit("p", TYPE, TASK))
            wait_until(lambda: fake.count(CREATE) == JOBS + 1, 30)
            began = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
            assert time.monotonic() - began < STOP_SECONDS + 5
        assert is_there() == JOBS + 1, "the open submit's answer was not stored"
        assert not RemoteJob.objects.exclude(look_token=None).exists()
        fake.script[GET] = [{"status": "succeeded", "output": [f"{fake.url}/out.png"]}]
        with running(tmp_path / "log", *WORKER, **environment):
            done = Task.objects.filter(status="completed").count
            wait_until(lambda: done() == JOBS + 1, 120, (tmp_path / "log").read_text)
        assert fake.count(CREATE) == JOBS + 1
