"""How many jobs does a provider's server get, and who is next when it has room?"""

import pytest
from django.db.models.functions import Now

from tasks_app.models import RemoteJob, RemoteServer, Task
from tasks_app.state import lifecycle
from tasks_app.state.submit import Submit, submit
from tasks_app.work import run
from tests.support.fake_provider import Reply, png
from tests.support.remote_work import (
    CREATE,
    GET,
    TASK,
    TYPE,
    begin,
    ended,
    job_of,
    remote_work,
    use,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

RUNNING = {"status": "processing"}


def done(fake):
    return {"status": "succeeded", "output": [f"{fake.url}/out.png"]}


def test_waiting_tasks_keep_their_place_and_projects_take_turns(fake):
    """Proves that who waits goes before who comes later, and no project takes all the room."""
    use(concurrency=1)
    fake.script[GET] = [RUNNING]
    with remote_work():
        first = begin("a")
        waiting = [begin("a"), begin("a"), begin("b")]
        order = []
        lifecycle.cancel(first.id)
        for _ in waiting:
            wait_until(lambda: run.run_next(TYPE) or running(waiting, order), 30)
            order.append(running(waiting, order)[0])
            lifecycle.cancel(order[-1].id)
    assert [task.project_id for task in order] == ["b", "a", "a"]
    assert order[1].pk == waiting[0].pk


def running(tasks, seen):
    found = Task.objects.filter(pk__in=[t.pk for t in tasks], remote_provider="replicate")
    return list(found.filter(status="processing").exclude(pk__in=[t.pk for t in seen]))


def test_tasks_of_other_models_pass(fake):
    """Proves that a model without room holds up nobody else."""
    use(concurrency=1)
    fake.script[GET] = [RUNNING]
    with remote_work():
        begin()
        waiting = begin()
        waiting.refresh_from_db()
        assert (waiting.status, waiting.waits_for) == ("queued", "replicate:acme/painter")
        use("fal")
        assert ended(submit(Submit("p", TYPE, TASK)).task).status == "completed"
        use(concurrency=1)


def test_a_limit_is_learned(fake):
    """Proves that "busy" halves a server's limit and a success raises it by one."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        tasks = [begin() for _ in range(4)]
        wait_until(lambda: fake.count(CREATE) == 4, 30)
        fake.script[CREATE] = [Reply(429, headers={"retry-after": "1"})]
        begin()
        wait_until(lambda: RemoteServer.objects.get().learned_limit == 2, 30)
        fake.script[CREATE] = [{"id": "p1", "status": "starting"}]  # a place falls free below
        fake.script[GET] = [done(fake)]
        RemoteJob.objects.filter(task=tasks[0]).update(next_look_at=Now())
        ended(tasks[0])
        wait_until(lambda: RemoteServer.objects.get().learned_limit >= 3, 30)


def test_a_paused_server_gets_nothing_new(fake):
    """Proves that an operator's pause keeps new work away and leaves running work alone."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        first = begin()
        wait_until(lambda: job_of(first).state == "running", 30)
        RemoteServer.objects.update(is_paused=True)
        second = begin()
        second.refresh_from_db()
        assert second.status == "queued"
        fake.script[GET] = [done(fake)]
        assert ended(first).status == "completed"
        RemoteServer.objects.update(is_paused=False)
        assert ended(second).status == "completed"


def test_results_that_wait_hold_up_no_looks(fake, monkeypatch):
    """Proves that more results than threads to fetch them leave room for everything else."""
    use()
    monkeypatch.setattr("tasks_app.remote_work.steps.FETCHERS", 1)
    slow = Reply(body=png(), delay=3)
    fake.script["GET /out.png"] = [slow]
    fake.script[GET] = [done(fake)]
    with remote_work():
        tasks = [begin() for _ in range(5)]
        wait_until(lambda: RemoteJob.objects.filter(state="ready").count() == 5, 30)
        held = RemoteJob.objects.filter(state="ready", look_token__isnull=False)
        wait_until(lambda: held.count() <= 2, 30)
        fake.script["GET /out.png"] = [Reply(body=png())]
        assert {ended(task).status for task in tasks} == {"completed"}
