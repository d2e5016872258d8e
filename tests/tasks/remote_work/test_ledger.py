"""Are our sums those of the provider, whatever is killed? Real worker processes, kill -9.

A stand-in keeps a ledger of its own: what it has begun, it has charged.
"""

import itertools
import json
import threading
from decimal import Decimal

import pytest
from django.db.models import Sum

from tasks_app.models import Cost, RemoteJob, Task
from tasks_app.state.submit import Submit, submit
from tests.support.comfyui import EXAMPLES, write
from tests.support.fake_provider import FakeProvider, png
from tests.support.processes import running
from tests.support.remote_work import KEY, MODEL, TYPE
from tests.support.servers.comfyui import ComfyUI
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

TASKS, PRICE = 20, Decimal("0.10")
#: After so many pieces of work were begun, the worker is killed.
KILLS = (4, 11)


class Charging(FakeProvider):
    """Speaks Replicate's protocol, and charges for each prediction as it is created."""

    def __init__(self):
        super().__init__()
        self.charged: list[str] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        if request.command == "POST" and request.path.endswith("/predictions"):
            with self._lock:
                number = next(self._numbers)
                self.charged.append(json.loads(body)["webhook"].rpartition("/")[2])
            self._stopped.wait(0.05)  # charged, and not yet answered
            told = json.dumps({"id": f"p{number}", "status": "starting"}).encode()
        elif request.path.endswith(".png"):
            told = png()
        else:
            output = [f"{self.url}/out.png"]
            told = json.dumps({"status": "succeeded", "output": output}).encode()
        try:
            request.send_response(200)
            request.send_header("content-length", str(len(told)))
            request.end_headers()
            request.wfile.write(told)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker was killed


def run_through_kills(tmp_path, task_data, begun, **environment):
    """Let a worker make all tasks; kill it and start another whenever so much was begun."""
    tasks = [submit(Submit("film", TYPE, task_data)).task.pk for _ in range(TASKS)]
    settings = {
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
        "TASK_LEASE_SECONDS": "1",
        "TASK_RETRY_WAITS": "0,0,0,0,0,0",
        "MEDIA_ROOT": str(tmp_path / "media"),
        "WORK_ROOT": str(tmp_path / "work"),
        "METRICS_DIR": str(tmp_path / "metrics"),
        **environment,
    }

    def are_over():
        return not Task.objects.filter(pk__in=tasks, finished_at=None).exists()

    for so_much in (*KILLS, None):
        with running(tmp_path / "log", "-m", "tests.support.remote_worker", **settings) as worker:
            wait_until(
                are_over if so_much is None else lambda so_much=so_much: begun() >= so_much,
                timeout=120,
                message=lambda: (tmp_path / "log").read_text()[-3000:],
            )
            worker.kill()
    assert set(Task.objects.values_list("status", flat=True)) == {"completed"}


def prices(model):
    return json.dumps({model: {"unit": "picture", "amount": "0.10", "currency": "USD"}})


def test_sums_are_the_providers_where_we_choose_the_ids(tmp_path):
    """Proves that a ComfyUI ran exactly what we booked, and nothing of it is unclear."""
    still = json.loads((EXAMPLES / "still.json").read_text())
    asked = {
        "model": "still",
        "image_data": {"prompt": "rain"},
        "image_params": {"resolution": "256x256"},
    }
    with ComfyUI() as server:
        run_through_kills(
            tmp_path,
            asked,
            lambda: len(server.calls("POST /prompt")),
            GENERATION_PROVIDERS=json.dumps(
                {TYPE: {"provider": "comfyui", "options": {"poll_seconds": 0.1}}}
            ),
            GENERATION_PRICES=prices("still"),
            COMFYUI_URLS=f"gpu-a={server.url}",
            COMFYUI_CONCURRENCY="8",
            COMFYUI_WORKFLOWS=str(write(tmp_path / "workflows", still=still)),
            PROVIDER_ALLOW_NETWORKS="comfyui=127.0.0.0/8",
        )
        assert len(server.calls("POST /prompt")) == TASKS
    assert Cost.objects.aggregate(sum=Sum("amount"))["sum"] == TASKS * PRICE
    assert set(Cost.objects.values_list("basis", flat=True)) == {"measured"}


def test_sums_are_never_less_where_the_provider_chooses_the_ids(tmp_path):
    """Proves that all that was charged is booked, and only what is unclear is booked beside it."""
    provider = {"provider": "replicate", "options": {"model": MODEL, "poll_seconds": 0.05}}
    with Charging() as server:
        run_through_kills(
            tmp_path,
            {"image_data": {"prompt": "rain"}},
            lambda: len(server.charged),
            GENERATION_PROVIDERS=json.dumps({TYPE: provider}),
            GENERATION_PRICES=prices(MODEL),
            REPLICATE_BASE_URL=server.url,
            REPLICATE_API_TOKEN=KEY,
            PROVIDER_ALLOW_NETWORKS="127.0.0.0/8",
            PROVIDER_CALLBACK_URL="https://movies.example.net",
        )
        charged = sorted(server.charged)
    booked = {basis: tokens_of(basis) for basis in ("measured", "unclear", "estimated")}
    assert len(set(charged)) == len(charged), "one job was charged twice"
    assert booked["measured"] <= set(charged) <= booked["measured"] | booked["unclear"]
    assert (len(booked["measured"]), booked["estimated"]) == (TASKS, set())
    ours = Cost.objects.aggregate(sum=Sum("amount"))["sum"]
    never_came = booked["unclear"] - set(charged)
    assert ours - len(charged) * PRICE == len(never_came) * PRICE


def tokens_of(basis):
    """Return by which tokens the provider knows the jobs that were booked so."""
    ids = Cost.objects.filter(basis=basis).values_list("pk", flat=True)
    jobs = RemoteJob.objects.filter(pk__in=list(ids))
    return set(jobs.values_list("callback_token", flat=True))
