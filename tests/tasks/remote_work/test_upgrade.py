"""Does paid work survive the upgrade from the version that kept it in the task's row?"""

import json
from importlib import import_module

import pytest
from django.db import connection

from tasks_app.models import RemoteJob
from tasks_app.state.submit import Submit, submit
from tests.support.remote_work import CREATE, GET, MODEL, TASK, TYPE, ended, remote_work, use

pytestmark = pytest.mark.django_db(transaction=True)
KEEP_WORK = import_module("tasks_app.migrations.0005_remote_jobs").KEEP_WORK


@pytest.fixture
def old_column():
    """The column of the version before, which the migration removes in the end."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tasks_app_task ADD COLUMN remote_state jsonb")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tasks_app_task DROP COLUMN remote_state")


def test_work_that_runs_during_the_upgrade_is_fetched_and_not_paid_again(fake, old_column):
    """Proves that what the old version had begun, claimed or between two claims, is completed."""
    use()
    was = {"provider": "replicate", "model": MODEL, "id": "p1"}
    fake.script[GET] = [{"status": "succeeded", "output": [f"{fake.url}/out.png"]}]
    claimed, queued, over = (submit(Submit("p", TYPE, TASK)).task for _ in range(3))
    with connection.cursor() as cursor:
        set_state = "UPDATE tasks_app_task SET remote_state = %s WHERE id = ANY(%s)"
        cursor.execute(set_state, [json.dumps(was), [claimed.pk, queued.pk, over.pk]])
        cursor.execute(
            "UPDATE tasks_app_task SET status = 'processing', started_at = now(),"
            " run_token = gen_random_uuid(), lease_expires_at = now() + interval '30 s'"
            " WHERE id = %s",
            [claimed.pk],
        )
        cursor.execute(
            "UPDATE tasks_app_task SET status = 'cancelled', finished_at = now() WHERE id = %s",
            [over.pk],
        )
        cursor.execute(KEEP_WORK)
    jobs = {job.task_id: job for job in RemoteJob.objects.all()}
    assert set(jobs) == {claimed.pk, queued.pk}
    assert {(job.state, job.remote["id"], job.model) for job in jobs.values()} == {
        ("running", "p1", MODEL)
    }
    with remote_work():
        assert {ended(task).status for task in (claimed, queued)} == {"completed"}
    assert fake.count(CREATE) == 0
