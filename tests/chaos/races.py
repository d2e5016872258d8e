"""F7, F8, F9, F27: lost replies, frozen workers, racing engines, and clocks that are wrong."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from moviesvc.run import embedded
from tests.chaos import ledger, place, victims
from tests.chaos.points import EVENTS
from tests.chaos.report import Figure
from tests.chaos.stage import Stage
from tests.chaos.tcpproxy import TcpProxy
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

DAY = 86_400.0


def f7(var: Path, replies: Sequence[int]) -> Figure:
    """Lose the reply to the k-th request to PostgreSQL or Redis, at submit and at work."""
    figure = Figure("F7", f"reply k lost, k in {replies[0]}..{replies[-1]}", "ledger clean")
    lost, duplicates = 0, 0
    with _proxied(var) as (stage, postgres, redis):
        for number in replies:
            for name, proxy in (("postgres", postgres), ("redis", redis)):
                for moment in ("submit", "work"):
                    scope = f"{name}-{moment}-{number}-{secrets.token_hex(3)}"
                    is_lost, found, twice = _lose_reply(stage, proxy, scope, moment, number)
                    lost += is_lost
                    duplicates += twice
                    if found:
                        figure.violations[scope] = [str(found)]
    figure.seen = {"replies lost": lost, "duplicates": duplicates}
    figure.expect(lost > 0, "no reply was lost: the run proves nothing")
    return figure


@contextmanager
def _proxied(var: Path) -> Iterator[tuple[Stage, TcpProxy, TcpProxy]]:
    with place.fresh(var) as here:
        sockets = Path(victims.redis_socket(var)).parent
        postgres = TcpProxy(str(sockets / f".s.PGSQL.{embedded.PORT}"))
        with postgres, TcpProxy(str(sockets / "redis.sock")) as redis:
            options = "sslmode=disable&gssencmode=disable"
            urls = {
                "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{postgres.port}"
                f"/{embedded.DATABASE}?{options}",
                "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            }
            with here.stage({"seconds": 0.1}, **urls) as stage:
                yield stage, postgres, redis


def _lose_reply(
    stage: Stage, proxy: TcpProxy, scope: str, moment: str, number: int
) -> tuple[bool, dict[str, list[str]], int]:
    with Receiver([500, 200]) as receiver:
        url = f"{receiver.url}/{scope}"
        if moment == "submit":
            proxy.lose_reply(number)
        task_id = stage.submit(scope, url, webhook_events=EVENTS)
        if moment == "work":
            proxy.lose_reply(number)
        worker = stage.fork("worker")
        if not stage.settle(scope, 3.0):
            stage.age(messages=False)
            stage.settle(scope, 15.0)
        is_lost = proxy.dropped
        proxy.lose_reply(0)
        worker.terminate()
        history = stage.history(scope, [task_id], receiver, crashes=1)
        return is_lost, ledger.check(history), ledger.duplicates(history)


def f8(var: Path, times: int) -> Figure:
    """A worker freezes just before its commit, and continues after another finished the task."""
    figure = Figure("F8", f"{times} x frozen before the commit", "0 double results, fenced > 0")
    with place.fresh(var) as here, here.stage({"seconds": 0.05}) as stage:
        for number in range(times):
            scope = f"frozen-{number}-{secrets.token_hex(3)}"
            with Receiver([200]) as receiver:
                task_id = stage.submit(scope, f"{receiver.url}/{scope}")
                victim = stage.fork("worker", "run.after_store:freeze")
                wait_until(lambda victim=victim: victim.wait() == "frozen", timeout=30)
                stage.age()
                rescuer = stage.fork("worker")
                figure.expect(stage.settle(scope, 40), "the other worker did not finish the task")
                before = _fenced(stage)
                victim.thaw()
                # Not every one gets to its commit: the lease watch may stop it before.
                with contextlib.suppress(AssertionError):
                    wait_until(lambda before=before: _fenced(stage) > before, timeout=3)
                for process in (victim, rescuer):
                    process.terminate()
                found = ledger.check(stage.history(scope, [task_id], receiver))
                figure.violations |= {scope: [str(found)]} if found else {}
        figure.seen = {"fenced commits": _fenced(stage)}
        figure.expect(_fenced(stage) > 0, "no late commit was fenced: the run proves nothing")
    return figure


def _fenced(stage: Stage) -> int:
    """Count late commits that changed no row."""
    return stage.log.read_text(errors="replace").count("its work was discarded")


def f9(var: Path, messages: int, engines: int) -> Figure:
    """Several engine processes race for the same due messages."""
    what = f"{engines} engines race for {messages:,} messages"
    figure = Figure("F9", what, "0 double claims")
    scope = f"race-{secrets.token_hex(3)}"
    with (
        place.fresh(var) as here,
        here.stage({"seconds": 0.0}) as stage,
        Receiver([200]) as receiver,
    ):
        task_id = stage.submit(scope, f"{receiver.url}/{scope}")
        worker = stage.fork("worker")
        stage.settle(scope, 20)
        worker.terminate()
        _multiply(stage, scope, messages)
        racing = [stage.fork("engine") for _ in range(engines)]
        stage.settle(scope, 120)
        for engine in racing:
            engine.terminate()
        history = stage.history(scope, [task_id], receiver)
        # The copies belong to no task: only the invariants of messages apply to them.
        keep = ("I4", "I5", "I6", "I7", "I8", "I9", "I10")
        found = ledger.check(history)
        figure.violations = {name: found[name] for name in keep if name in found}
        figure.seen = {"POSTs": len(history.posts), "duplicates": ledger.duplicates(history)}
    return figure


def _multiply(stage: Stage, scope: str, messages: int) -> None:
    """Publish as many copies of the one message, all due at once."""
    _copy(
        stage,
        "webhooks_app_webhookevent",
        {"event_id": "'msg_' || md5(source.event_id || number)", "subject": "'copy-' || number"},
        f"scope = '{scope}'",
        messages,
    )
    _copy_messages(stage, scope)


def _copy(stage: Stage, table: str, changed: dict[str, str], condition: str, count: int) -> None:
    columns = _columns(stage, table)
    values = ", ".join(changed.get(name, f'source."{name}"') for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    stage.execute(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} source,"
        f" generate_series(1, {count}) AS number WHERE {condition}"
    )


def _copy_messages(stage: Stage, scope: str) -> None:
    changed = {
        "event_id": "copied.id",
        "status": "'pending'",
        "attempt_count": "0",
        "next_attempt_at": "now()",
        "delivered_at": "NULL",
        "finished_at": "NULL",
    }
    columns = _columns(stage, "webhooks_app_webhookmessage")
    values = ", ".join(changed.get(name, f'source."{name}"') for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    stage.execute(
        f"INSERT INTO webhooks_app_webhookmessage ({names}) SELECT {values}"
        " FROM webhooks_app_webhookmessage source"
        f" JOIN webhooks_app_webhookevent e ON e.id = source.event_id AND e.scope = '{scope}'"
        f" JOIN webhooks_app_webhookevent copied ON copied.scope = '{scope}'"
        " AND copied.subject LIKE 'copy-%'"
    )


def _columns(stage: Stage, table: str) -> list[str]:
    sql = (
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_name = %s AND column_name <> 'id'"
    )
    return [row[0] for row in stage.query(sql, [table])]


def f27(var: Path) -> Figure:
    """Workers whose clocks are a day ahead and a day behind share the work."""
    figure = Figure("F27", "clocks a day ahead and a day behind", "0 lost, no extra attempts")
    scope = f"clock-{secrets.token_hex(3)}"
    with (
        place.fresh(var) as here,
        here.stage({"seconds": 0.05, "fail_code": "render_failed", "failures": 1}) as stage,
        Receiver([500, 500, 200]) as receiver,
    ):
        workers = [stage.fork("worker", skew=DAY), stage.fork("worker", skew=-DAY)]
        accepted = [stage.submit(scope, f"{receiver.url}/{scope}") for _ in range(6)]
        stage.settle(scope, 30)
        for worker in workers:
            worker.terminate()
        history = stage.history(scope, accepted, receiver)
        found = ledger.check(history)
        # Their timestamps are a day off, like their clocks; everything else must hold.
        found["I7"] = [each for each in found.get("I7", []) if "go back" not in each]
        figure.violations = {name: each for name, each in found.items() if each}
        attempts = len(history.deliveries)
    figure.seen = {"tasks": len(accepted), "attempts": attempts}
    figure.expect(attempts <= 2 * len(accepted), f"{attempts} attempts for {len(accepted)} tasks")
    return figure
