"""What becomes of queued tasks that nobody can begin any more, and who says so?"""

import pytest
from django.core.checks import run_checks

from tasks_app.models import Task
from tasks_app.providers.remote.replicate import ReplicateProvider
from tasks_app.state import remote
from tasks_app.state.submit import Submit, submit
from tasks_app.upkeep.sweep import sweep
from tests.support.remote_work import TASK, TYPE, begin, ended, remote_work, use

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "No provider is configured for image_generation."
NO_SERVER = "No server of replicate is configured for acme/painter."


def told(admin_client, task):
    page = admin_client.get(f"/admin/tasks_app/task/{task.pk}/change/").content.decode()
    warnings = [found.msg for found in run_checks(databases=["default"])]
    return page, [text for text in warnings if "cannot begin" in text]


def is_over(*tasks):
    for task in tasks:
        Task.objects.filter(pk=task.pk).update(created_at="2020-01-01T00:00:00Z", deadline=None)


def test_a_type_without_a_provider_ends_its_tasks_at_their_time(fake, settings, admin_client):
    """Proves that they wait for one as long as their time lasts, seen, and then end with a text."""
    use()
    late, young = (submit(Submit("p", TYPE, TASK)).task for _ in range(2))
    settings.GENERATION_PROVIDERS = {"video_generation": "previz"}
    page, warnings = told(admin_client, young)
    assert f"{NOBODY} It ends when its time is over." in page
    assert warnings == [f"Queued tasks that cannot begin, 2: {NOBODY}"]
    is_over(late)
    swept = sweep()
    assert swept is not None
    assert swept.overdue_tasks == 1
    late.refresh_from_db()
    assert (late.status, late.error_code) == ("failed", "provider_unavailable")
    assert late.error.endswith(NOBODY)
    use()
    assert list(remote.stranded()) == []
    is_over(young)
    assert remote.end_stranded() == 0
    with remote_work():
        assert ended(young).status == "completed"


def test_a_model_without_servers_ends_its_tasks_at_their_time(fake, monkeypatch, admin_client):
    """Proves the same for a model that all configured servers were taken from."""
    use()
    monkeypatch.setattr(ReplicateProvider, "servers", lambda self, model: [])
    task = begin(timeout_seconds=30)
    page, warnings = told(admin_client, task)
    assert f"{NO_SERVER} It ends when its time is over." in page
    assert warnings == [f"Queued tasks that cannot begin, 1: {NO_SERVER}"]
    Task.objects.filter(pk=task.pk).update(
        deadline="2020-01-01T00:00:00Z", available_at="2020-01-01T00:00:00Z"
    )
    task = ended(task)
    assert (task.status, task.error_code) == ("failed", "timed_out")
    assert task.error.endswith(NO_SERVER)
