"""How does an operator see which servers make media for us, pause one, and find what runs on?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from tasks_app import remote_servers
from tasks_app.models import RemoteJob, RemoteJobState
from tasks_app.remote_servers import Standing
from webhooks_app.operators.command import OperatorCommand, operator
from webhooks_app.operators.explain import seconds_text
from webhooks_app.shown import visible

#: Most jobs of one kind that are listed.
MOST = 50
WIDTHS = (26, 14, 8, 14, 7)


class Command(OperatorCommand):
    help = (
        "Show the servers of the providers elsewhere: state, jobs that run there, limits, last "
        "error; then every stop that is still owed: work that a provider must be told to end, "
        "since it may cost money until then."
        "\n\n"
        "A paused server gets no new jobs, and those that run there go on: pause it, wait until "
        "nothing runs there, and it can be restarted. Waiting tasks go to other servers of its "
        "pool, or wait as long as their time lasts. Each pause and resume goes on record, with "
        "your login and the reason. The same is in the admin, under Remote servers."
    )
    examples = (
        ("", "servers and unfinished stops"),
        ("--unclear", "work of which nobody knows whether it was paid for"),
        ('--pause comfyui/gpu-1 --reason "new driver"', "drain a server"),
        ('--resume comfyui/gpu-1 --reason "the driver is in"', "let it have jobs again"),
    )
    exit_codes = {
        0: "done; also if it was so before",
        2: "wrong usage, for example no reason",
        3: "there is no such server",
    }

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        server = "PROVIDER/SERVER"
        what.add_argument("--pause", metavar=server, help="Give this server no new jobs.")
        what.add_argument("--resume", metavar=server, help="Give this server jobs again.")
        what.add_argument(
            "--unclear", action="store_true", help=f"List the newest {MOST} unclear jobs instead."
        )
        parser.add_argument("--reason", default="", help="Why you pause or resume; needed.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["pause"] is not None:
            self._set(remote_servers.pause, options["pause"], options["reason"], "paused")
        elif options["resume"] is not None:
            self._set(remote_servers.resume, options["resume"], options["reason"], "resumed")
        elif options["reason"]:
            raise CommandError("A reason for what? Give --pause or --resume.", returncode=2)
        elif options["unclear"]:
            self._unclear()
        else:
            self._servers()
            self._stops()

    def _set(self, act: Callable[..., bool], name: str, reason: str, done: str) -> None:
        provider, _, label = name.partition("/")
        reason = reason.encode(errors="replace").decode()  # a shell passes any bytes on
        try:
            is_new = act(provider, label, actor=operator(), reason=reason)
        except ValueError as error:
            raise CommandError(f"{error} Give --reason.", returncode=2) from None
        except remote_servers.UnknownServer as error:
            known = ", ".join("/".join(each) for each in remote_servers.standing()) or "none"
            raise CommandError(f"{error} Known: {known}.", returncode=3) from None
        self.stdout.write(f"{name} is {done}." if is_new else f"{name} was {done} already.")

    def _servers(self) -> None:
        found, now = remote_servers.standing(), timezone.now()
        if not found:
            self.stdout.write("No provider elsewhere is configured, and none ever had a job.")
            return
        self.stdout.write(_line("server", "state", "running", "limit/learned", "stops", "error"))
        for (provider, label), stands in found.items():
            self.stdout.write(_server_line(f"{provider}/{label}", stands, now))

    def _stops(self) -> None:
        owed = RemoteJob.objects.filter(state=RemoteJobState.STOPPING, stop_told_at=None)
        rows = list(owed.order_by("stop_owed_at")[: MOST + 1])
        self.stdout.write("\nUnfinished stops, oldest first:" if rows else "\nNo stop is owed.")
        for row in rows[:MOST]:
            since = seconds_text(
                (timezone.now() - (row.stop_owed_at or row.created_at)).total_seconds()
            )
            self.stdout.write(
                f"  {row.provider}/{row.server}  id there {_id_there(row)}  owed for {since}"
                f"  because {row.stop_reason or '-'}  task {row.task_id}  {visible(row.note)}"
            )
        if len(rows) > MOST:
            self.stdout.write("  ... and more")

    def _unclear(self) -> None:
        rows = RemoteJob.objects.filter(outcome="unclear").order_by("-created_at")[:MOST]
        for row in rows:
            self.stdout.write(
                f"{row.created_at:%Y-%m-%d %H:%M:%S}  {row.provider}/{row.server}"
                f"  model {row.model or '-'}  task {row.task_id}  {visible(row.note)}".rstrip()
            )
        if not rows:
            self.stdout.write("No unclear job: of all work it is known whether it was paid for.")


def _server_line(name: str, stands: Standing, now: datetime) -> str:
    limits = "/".join(
        "-" if limit is None else str(limit) for limit in (stands.limit, stands.row.learned_limit)
    )
    _, state = stands.state(now)
    load = stands.load
    words = visible(stands.row.last_error) or "-"
    return _line(name, state, str(load.places_used), limits, str(load.stops_owed), words)


def _line(*words: str) -> str:
    padded = [word.ljust(width) for word, width in zip(words, WIDTHS, strict=False)]
    return "  ".join([*padded, *words[len(WIDTHS) :]]).rstrip()


def _id_there(row: RemoteJob) -> str:
    return visible(str(row.remote.get("id") or "unknown"))
