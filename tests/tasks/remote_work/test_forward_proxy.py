"""What does a forward proxy mean for work elsewhere: which providers use it, and while it fails?"""

import pytest
from django.core.checks import run_checks

from tasks_app.providers import proxies
from tasks_app.providers.comfyui import pool
from tasks_app.providers.remote import client
from tasks_app.providers.remote.fal import FalProvider
from tasks_app.remote_work import steps
from tasks_app.work import run
from tests.support.forward_proxy import ForwardProxy
from tests.support.ports import free_port
from tests.support.remote_work import TYPE, begin, ended, job_of, remote_work, use
from tests.support.waiting import wait_until


@pytest.mark.django_db(transaction=True)
def test_a_proxy_that_is_down_uses_up_nothing(fake, settings, monkeypatch):
    """Proves that a task waits while it cannot be submitted or looked at, and then ends well.

    Everything goes through the proxy: the submit, the looks and the result.
    """
    use("replicate")
    monkeypatch.setattr(client, "PROXY_AGAIN_SECONDS", 0.2)
    settings.TASK_RETRY_WAITS = []
    port = free_port()
    settings.PROVIDER_PROXY = [f"http://127.0.0.1:{port}"]
    look = "GET /v1/predictions/p1"
    done = list(fake.script[look])
    fake.script[look] = [{"status": "processing"}]
    with remote_work():
        task = begin()
        wait_until(lambda: "proxy" in noted(task), 30)
        task.refresh_from_db()
        assert (task.status, fake.seen) == ("queued", [])
        with ForwardProxy(port=port) as forward:
            wait_until(lambda: is_running(task), 30)
            wait_until(lambda: fake.count(look), 30)
        wait_until(lambda: "proxy" in job_of(task).note, 30)
        assert job_of(task).state == "running"
        fake.script[look] = done
        with ForwardProxy(port=port) as again:
            task = ended(task)
            assert forward.asked + again.asked
            assert len(again.asked) >= 2, "the look and the result went through it"
    assert (task.status, task.attempts) == ("completed", 0)


def noted(task):
    """Return what the row of the job's server says."""
    from tasks_app.models import RemoteServer

    return " ".join(RemoteServer.objects.values_list("last_error", flat=True))


def is_running(task):
    """Say whether the task was submitted; what waits for room is run meanwhile."""
    run.run_next(TYPE)
    job = task.remote_jobs.order_by("-created_at").first()
    return job is not None and job.state == "running"


def test_a_silent_server_behind_a_proxy_that_is_down_is_not_lost(settings):
    """Proves that a job of a pool does not start anew because the proxy hides its server."""

    class Job:
        seen_at = asked_at = None

    class Provider:
        lost_seconds = 0.0

    assert not steps._is_silent(Job(), Provider(), client.ProxyDown("The proxy."))


def test_each_provider_has_its_own_proxy_or_none(settings):
    """Proves that a ComfyUI on the LAN is called directly beside others through the proxy."""
    settings.PROVIDER_PROXY = [
        "http://proxy:3128",
        "fal=socks5://u:p%2C1@other:1080",
        "comfyui=off",
    ]
    settings.COMFYUI_URLS = ["http://10.1.2.3:8188"]
    named = {name: str(proxies.proxy_for(name)) for name in ("fal", "replicate", "comfyui")}
    assert named == {
        "fal": "socks5://other:1080",
        "replicate": "http://proxy:3128",
        "comfyui": "None",
    }
    assert [server.proxy for server in pool.servers("comfyui")] == [None]
    assert str(FalProvider(model="m").servers("m")[0].proxy) == "socks5://other:1080"
    assert proxies.problems(frozenset({"fal", "comfyui"})) == []


def test_check_says_what_to_do_about_a_malformed_proxy(settings):
    """Proves that each of the three settings is refused before anything runs, without secrets."""
    settings.PROVIDER_PROXY = [
        "fall=http://a:1",
        "fal=http://u:hunter2/@b:1",
        "http://x",
        "http://y:1",
    ]
    settings.ASSET_PROXY = "https://u:hunter2@proxy:3128"
    settings.WEBHOOKS = {**settings.WEBHOOKS, "PROXY": "u:hunter2@proxy:3128"}
    told = [f"{found.id} {found.msg}" for found in run_checks(tags=["tasks", "webhooks"])]
    for start in (
        "tasks.E006 PROVIDER_PROXY: there is no provider fall",
        "tasks.E006 PROVIDER_PROXY of fal: a proxy reads http://host:port",
        "tasks.E006 PROVIDER_PROXY: two proxies are for all others",
        "tasks.E006 ASSET_PROXY: TLS to the proxy itself is not supported",
        "webhooks.E009 WEBHOOKS['PROXY']: a proxy reads http://host:port",
    ):
        assert [line for line in told if line.startswith(start)], told
    assert "hunter2" not in "".join(told)
    settings.WEBHOOKS = {**settings.WEBHOOKS, "PROXY": "http://proxy:3128", "PROXY_GUARDS": True}
    deploy = run_checks(tags=["webhooks"], include_deployment_checks=True)
    assert "webhooks.W004" in [found.id for found in deploy]
