"""What becomes of remote work when things go wrong? On the protocol of Replicate, on real rows."""

import base64
import json
import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from tasks_app.media import probe
from tasks_app.models import MediaFile, RemoteJob, Task
from tasks_app.providers.remote.replicate import ReplicateProvider
from tasks_app.state import lifecycle
from tasks_app.state.submit import retry
from tests.support.fake_provider import FakeProvider, Reply, png
from tests.support.remote_work import (
    CANCEL,
    CREATE,
    GET,
    KEY,
    TYPE,
    begin,
    ended,
    job_of,
    remote_work,
    use,
)
from tests.support.waiting import wait_until
from webhooks_app import signing

pytestmark = pytest.mark.django_db(transaction=True)

RUNNING = {"status": "processing"}
DEAD = "http://127.0.0.1:9"


def done(fake):
    return {"status": "succeeded", "output": [f"{fake.url}/out.png"]}


# -- what came ---------------------------------------------------------------------------------


def test_content_refusal_is_permanent(fake):
    """Proves that a refusal of the content has its own code and is not retried."""
    use()
    fake.script[CREATE] = [Reply(400, b'{"error": {"code": "content_policy_violation"}}')]
    with remote_work():
        task = ended(begin())
    assert (task.error_code, fake.count(CREATE)) == ("content_refused", 1)


def test_failed_work_starts_anew_and_keeps_its_words_for_operators(fake):
    """Proves that a model's failure is tried again, and that only operators read its words."""
    use()
    fake.script[GET] = [{"status": "failed", "error": "CUDA out of memory"}, done(fake)]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.error_code, fake.count(CREATE)) == ("completed", "", 2)
    jobs = RemoteJob.objects.filter(task=task).order_by("created_at")
    assert [(job.outcome, job.note) for job in jobs] == [
        ("failed", "CUDA out of memory"),
        ("completed", ""),
    ]
    assert "CUDA" not in json.dumps(task.result)


@pytest.mark.parametrize("content", [b"<html>no picture</html>", png()[:-40]])
def test_wrong_or_truncated_media_is_no_result(fake, content):
    """Proves that a file that cannot be decoded is not accepted as a result."""
    use()
    fake.script["GET /out.png"] = [Reply(body=content)]
    fake.script[GET] = [done(fake)]
    with remote_work():
        assert ended(begin()).error_code == "output_invalid"


def test_result_larger_than_allowed_is_refused(fake, settings):
    """Proves that a download stops at its limit and leaves no file."""
    use(max_bytes=100_000)
    fake.script["GET /out.png"] = [Reply(body=bytes(200_000))]
    with remote_work():
        task = ended(begin())
    assert (task.error_code, task.attempts) == ("output_invalid", 1)
    assert MediaFile.objects.count() == 0


@pytest.mark.parametrize("target", ["http://10.0.0.1/x", "http://169.254.169.254/latest"])
def test_redirect_to_a_private_address_is_not_followed(fake, target):
    """Proves that a result's redirect is checked like a client's URL."""
    use()
    fake.script["GET /out.png"] = [Reply(302, headers={"location": target})]
    with remote_work():
        task = ended(begin())
    assert (task.error_code, task.attempts) == ("output_invalid", 1)


def test_credentials_go_to_the_configured_origin_alone(fake):
    """Proves that a result on another origin is fetched without our key."""
    use()
    with FakeProvider({"GET /out.png": [Reply(body=png())]}) as elsewhere:
        fake.script[GET] = [{"status": "succeeded", "output": f"{elsewhere.url}/out.png"}]
        with remote_work():
            ended(begin())
        assert "authorization" not in elsewhere.seen[0].headers
    assert fake.calls(CREATE)[0].headers["authorization"] == f"Bearer {KEY}"


def test_base_url_must_lie_in_the_listed_networks(fake, settings):
    """Proves that a private base URL is dialled only where its network is named."""
    use()
    settings.PROVIDER_ALLOW_NETWORKS = ["10.0.0.0/8"]
    with remote_work():
        assert ended(begin()).error_code == "provider_rejected"
    assert fake.seen == []


def test_a_result_that_cannot_be_fetched_yet_is_fetched_later(fake, monkeypatch):
    """Proves that a failing download costs no second prediction."""
    use()
    monkeypatch.setattr("tasks_app.remote_work.results.AGAIN_SECONDS", 0.1)
    fake.script["GET /out.png"] = [Reply(503), Reply(500), Reply(body=png())]
    with remote_work():
        assert ended(begin()).status == "completed"
    assert (fake.count(CREATE), fake.count("GET /out.png")) == (1, 3)


def test_a_result_whose_probe_ran_out_of_time_is_not_paid_twice(fake, monkeypatch):
    """Proves that work is submitted and downloaded once, however often it is probed."""
    use()
    monkeypatch.setattr(probe, "CLOCK_FACTOR", 0)
    monkeypatch.setattr(probe, "WATCH_SECONDS", 0)  # or a quick machine is done before the look
    with remote_work():
        assert ended(begin()).error_code == "probe_timed_out"
    assert (fake.count(CREATE), fake.count("GET /out.png")) == (1, 1)


# -- time ----------------------------------------------------------------------------------------


def test_time_out_stops_the_work(fake):
    """Proves that work past its deadline ends as timed_out here and is stopped there."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        task = ended(begin(timeout_seconds=1))
        wait_until(lambda: fake.count(CANCEL), 30)
    assert (task.error_code, task.attempts) == ("timed_out", 1)


def test_a_late_result_is_kept_and_a_retry_gets_it_for_nothing(fake):
    """Proves that work which ended after the time-out is fetched, and not paid for again."""
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        task = ended(begin(timeout_seconds=1))
        wait_until(lambda: fake.count(CANCEL), 30)
        fake.script[GET] = [done(fake)]
        RemoteJob.objects.filter(task=task).update(next_look_at=Now())
        wait_until(lambda: job_of(task).outcome == "late", 30)
        task.refresh_from_db()
        assert (task.status, task.result) == ("failed", None)
        again = ended(retry(task).task)
    assert (again.status, fake.count(CREATE)) == ("completed", 1)
    assert again.result["provider_metadata"]["taken_from"] == str(task.id)
    first, second = MediaFile.objects.order_by("created_at")
    assert first.sha256 == second.sha256
    assert first.path != second.path


@pytest.mark.parametrize("longest", [60.0, 5.0])
def test_the_longest_wait_between_looks_is_the_setting(fake, settings, longest):
    """Proves that old work is looked at again within REMOTE_LOOK_SECONDS, by default 60."""
    assert settings.REMOTE_LOOK_SECONDS == 60
    settings.REMOTE_LOOK_SECONDS = longest
    use()
    fake.script[GET] = [RUNNING]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
    now = timezone.now()
    old = {"created_at": now - timedelta(hours=2), "deadline": now + timedelta(hours=2)}
    RemoteJob.objects.filter(task=task).update(**old, next_look_at=now, look_token=None)
    before = fake.count(GET)
    with remote_work():
        wait_until(lambda: fake.count(GET) > before, 30)
    job = job_of(task)
    assert 0.8 * longest < (job.next_look_at - job.seen_at).total_seconds() <= longest


def test_waiting_for_room_is_part_of_the_time(fake):
    """Proves that a task which gets no room ends when its time is over, without an attempt."""
    use(concurrency=1)
    fake.script[GET] = [RUNNING]
    with remote_work():
        first = begin()
        second = ended(begin(timeout_seconds=1))
        assert (second.error_code, fake.count(CREATE)) == ("timed_out", 1)
        first.refresh_from_db()
        assert first.status == "processing"


# -- lost, unclear, crashed ----------------------------------------------------------------------


def test_lost_work_is_submitted_once_more(fake):
    """Proves that a provider which has forgotten the id gets the work once more, then no more."""
    use()
    fake.script[GET] = [Reply(404)]
    with remote_work():
        task = ended(begin())
    assert (task.status, task.error_code, task.attempts) == ("failed", "provider_unavailable", 3)
    outcomes = list(RemoteJob.objects.filter(task=task).values_list("attempt", "outcome"))
    assert sorted(outcomes) == [(n, "lost") for n in (1, 1, 2, 2, 3, 3)]


def test_a_silent_server_is_left_and_owed_a_stop(fake, monkeypatch):
    """Proves that work on a server that answers no more starts anew, and the old is stopped."""
    use()
    monkeypatch.setattr(ReplicateProvider, "lost_seconds", 0.3)
    fake.script[GET] = [RUNNING]
    with remote_work():
        task = begin()
        wait_until(lambda: fake.count(GET), 30)
        fake.script[GET] = [Reply(503)]
        wait_until(lambda: fake.count(CANCEL), 30)
        fake.script[GET] = [done(fake)]
        task = ended(task)
    assert (task.status, task.attempts, fake.count(CREATE)) == ("completed", 0, 2)


def test_an_unclear_submit_is_booked_as_perhaps_paid(fake):
    """Proves that a submit whose answer was cut off is told apart, then tried again."""
    use()
    good = fake.script[CREATE]
    fake.script[CREATE] = [Reply(headers={"content-length": "500"}), *good]
    with remote_work():
        task = ended(begin())
    assert (task.status, fake.count(CREATE)) == ("completed", 2)
    first = RemoteJob.objects.filter(task=task).earliest("created_at")
    assert first.outcome == "unclear"


def test_a_crash_in_a_submit_is_unclear_where_we_choose_no_id(fake):
    """Proves that a process killed in a submit leaves a job that is not simply sent again."""
    use()
    task = begin()
    RemoteJob.objects.filter(task=task).update(asked_at=Now())  # as the killed process left it
    with remote_work():
        ended(task)
    outcomes = RemoteJob.objects.filter(task=task).order_by("created_at")
    assert [job.outcome for job in outcomes] == ["unclear", "completed"]


def test_a_crash_in_a_submit_is_looked_up_where_we_choose_the_id(fake, settings):
    """Proves that a job under our own id is found again instead of started twice."""
    use("cog")
    inline = "data:image/png;base64," + base64.b64encode(png()).decode()
    task = begin()
    job = job_of(task)
    called = {"status": "succeeded", "output": inline}
    RemoteJob.objects.filter(pk=job.pk).update(asked_at=Now(), remote={"called": called})
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count("PUT /predictions/") == 0


def test_a_fetch_whose_worker_died_is_taken_up_again(fake):
    """Proves that a killed process costs neither the result nor the task's state."""
    use()
    fake.script["GET /out.png"] = [Reply(503)]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "ready", 30)
    wait_until(lambda: Task.objects.get(pk=task.pk).run_token is None, 30)
    Task.objects.filter(pk=task.pk).update(
        run_token=job_of(task).id, lease_expires_at=Now() - timedelta(seconds=5)
    )
    assert lifecycle.take_expired_leases() == 1
    task.refresh_from_db()
    assert (task.status, task.run_token) == ("processing", None)
    fake.script["GET /out.png"] = [Reply(body=png())]
    RemoteJob.objects.filter(task=task).update(next_look_at=Now())
    with remote_work():
        assert ended(task).status == "completed"
    assert fake.count(CREATE) == 1


def test_a_task_cancelled_before_its_submit_is_never_sent(fake):
    """Proves that nothing is paid for a task that was cancelled while its job was waiting."""
    use()
    task = begin()
    lifecycle.cancel(task.id)
    assert (job_of(task).state, job_of(task).outcome) == ("ended", "stopped")
    with remote_work():
        wait_until(lambda: True, 1)
    assert fake.seen == []


# -- callbacks -----------------------------------------------------------------------------------


def callback(job, body=b"{}", **headers):
    address = f"/api/v1/providers/{job.provider}/callback/{job.callback_token}"
    return Client().post(address, body, content_type="application/json", headers=headers)


def signed(secret, body):
    now = int(time.time())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign(secret, "msg_1", now, body),
    }


def test_a_callback_brings_the_next_look_forward(fake, settings):
    """Proves that a signed call of Replicate is a hint to look now, however often it comes."""
    secret = "whsec_" + base64.b64encode(bytes(24)).decode()
    settings.REPLICATE_WEBHOOK_SECRET = secret
    use(poll_seconds=600)
    fake.script[GET] = [done(fake)]
    with remote_work():
        task = begin()
        wait_until(lambda: job_of(task).state == "running", 30)
        assert callback(job_of(task)).status_code == 401
        for _ in range(2):
            answer = callback(job_of(task), **signed(secret, b"{}"))
            assert (answer.status_code, answer.content) == (204, b"")
        assert ended(task).status == "completed"
    assert callback(job_of(task), **signed(secret, b"{}")).status_code == 204


def test_an_unknown_address_is_told_nothing(fake):
    """Proves that nobody learns from the answer whether a job exists."""
    use()
    answer = Client().post(f"/api/v1/providers/replicate/callback/{'0' * 48}", b"x", "text/plain")
    assert (answer.status_code, answer.content) == (204, b"")


def test_callback_addresses_are_sent_where_they_can_be_called(fake, settings):
    """Proves that Replicate gets an https address with the job's own token, else none."""
    use()
    settings.PROVIDER_CALLBACK_URL = "https://movies.example.net"
    with remote_work():
        task = ended(begin())
        settings.PROVIDER_CALLBACK_URL = "http://localhost:8000"
        ended(begin())
    first, second = (seen.json() for seen in fake.calls(CREATE))
    assert first["webhook"].endswith(f"/providers/replicate/callback/{job_of(task).callback_token}")
    assert "webhook" not in second


def test_only_allowed_models_may_be_named():
    """Proves that a client cannot pick a model that the operator did not list."""
    made = ReplicateProvider(model="acme/painter", models=["acme/fast"])
    assert made.validate(TYPE, {"model": "acme/fast"}) == []
    (error,) = made.validate(TYPE, {"model": "acme/dear"})
    assert error.code == "not_allowed"


@pytest.mark.parametrize("answer", [Reply(502), Reply(504), {"status": "starting"}])
def test_a_submit_that_a_proxy_or_a_bad_answer_hides_is_unclear(fake, answer):
    """Proves that 502, 504 and an answer without an id are booked as perhaps paid."""
    use()
    fake.script[CREATE] = [answer, *fake.script[CREATE]]
    with remote_work():
        task = ended(begin())
    jobs = RemoteJob.objects.filter(task=task).order_by("created_at")
    assert [job.outcome for job in jobs] == ["unclear", "completed"]


def test_a_result_that_cannot_be_fetched_in_time_is_kept_late(fake, monkeypatch):
    """Proves that paid work whose download outlasted the task's time is not thrown away."""
    use()
    monkeypatch.setattr("tasks_app.remote_work.results.AGAIN_SECONDS", 0.2)
    fake.script["GET /out.png"] = [Reply(403)]
    fake.script[GET] = [done(fake)]
    with remote_work():
        task = ended(begin(timeout_seconds=2))
        assert task.error_code == "timed_out"
        fake.script["GET /out.png"] = [Reply(body=png())]
        RemoteJob.objects.filter(task=task).update(next_look_at=Now())
        wait_until(lambda: job_of(task).outcome == "late", 60)
