"""How is everything started? One command: servers, migrations, a login, then all processes.

With `--role` it starts only the processes of one role, of which any number may run anywhere. It
ends on Ctrl-C or SIGTERM and leaves nothing behind but `var/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import Error, connections

from moviesvc.run import embedded, lifeline, service, watchdog
from moviesvc.run.daemons import EmbeddedError
from moviesvc.run.lock_file import write_private
from moviesvc.run.supervisor import Supervisor
from tasks_app.access.authentication import find_key
from tasks_app.api import readiness
from tasks_app.models import ApiKey
from webhooks_app.database import why_unusable
from webhooks_app.operators.command import OperatorCommand
from webhooks_app.signing.store import require_readable

LISTEN_PORT = 8002  # the default of `listen`
ADMIN_USER = "admin"
UNTIL_READY_SECONDS = 0.1
WATCH_SECONDS = 1.0


class Command(OperatorCommand):
    help = (
        "Run the whole service: web, workers and delivery. Where DATABASE_URL and REDIS_URL are "
        "unset, with PostgreSQL and Redis of its own in var/. Applies migrations first, starts "
        "anew whatever dies, and stops everything on Ctrl-C or SIGTERM."
        "\n\nWith --role only web, workers or delivery, for a machine or a container of its own: "
        "any number of these may run, and migrations are a step before them (manage.py migrate)."
    )
    examples = (
        ("", "everything, on port 8001; PORT=8080 in the environment is another"),
        ("--role web", "the web server alone, as in a container"),
        ("--role worker", "workers alone, each with a delivery engine unless it is dedicated"),
        ("--role delivery", "delivery engines alone"),
    )
    exit_codes = {
        0: "stopped by Ctrl-C or SIGTERM, in order",
        1: "it runs already, the port is taken, or a server does not start; it says which",
        130: "Ctrl-C before it had started (143: SIGTERM)",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--role",
            choices=("all", "web", "worker", "delivery"),
            default="all",
            help="which processes to run (default: all)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # until the supervisor listens
        var = Path(settings.VAR_DIR).resolve()
        role = options["role"]
        details = {"pid": os.getpid(), "url": settings.PUBLIC_URL}
        try:
            if role == "all":
                with lifeline.hold(var, details):
                    Service(var, role, var).run()
            else:
                with lifeline.state_of_its_own(var, role) as state:
                    Service(var, role, state).run()
        except (lifeline.AlreadyRunning, TimeoutError, EmbeddedError) as problem:
            raise CommandError(str(problem)) from None
        except KeyboardInterrupt:
            sys.exit(130)


class Service:
    """The running service, or one role of it, from migrations to the end of the last process.

    Args:
        state: where the locks lie that end every process with this one.
    """

    def __init__(self, var: Path, role: str, state: Path) -> None:
        self.var = var
        self.role = role
        self.state = state
        self.run_file = service.RunFile(var)
        self.login: dict[str, Any] = dict.fromkeys(("api_key", "admin_user", "admin_password"))
        self.is_ready = False
        self.silence = watchdog.Silence()

    def run(self) -> None:
        if self.role == "all":
            self.run_file.remove()  # of a service that was killed
        if self.role in ("all", "web") and (complaint := service.check_port()):
            raise CommandError(complaint)
        environment = service.child_environment(self.var, self.state)
        supervisor = Supervisor(
            service.programs(environment, self.role),
            on_tick=self._tick,
            grace_seconds=service.GRACE_SECONDS,
            is_json=settings.LOG_FORMAT == "json",
        )
        if self.role == "all":
            supervisor.say("preparing the database and the static files, then starting")
            call_command("migrate", interactive=False, verbosity=0)
            require_readable()
            if not settings.IS_PRODUCTION:
                self.login = _development_login(self.var / "development.json")
        else:
            _require_migrated(supervisor)
        if self.role in ("all", "web"):
            _collect_static()
        connections.close_all()
        try:
            supervisor.run()
        finally:
            if self.role == "all":
                self.run_file.remove()
        supervisor.say("stopped; what was under way goes on at the next start")

    def _tick(self, supervisor: Supervisor) -> float:
        """Repair, update run.json and announce; return the seconds until the next call."""
        self._repair_servers(supervisor)
        pids = service.pids_by_role(supervisor, self.state)
        if not self.is_ready and not self._is_up(pids):
            return UNTIL_READY_SECONDS
        if self.role == "all":
            self.run_file.write(
                {"url": settings.PUBLIC_URL, **self.login, **pids, "pids": pids}
                | {"supervisor": os.getpid()}
            )
        if not self.is_ready:  # after run.json, so that a reader of the banner finds it
            self.is_ready = True
            self._announce(supervisor)
        self._repair_web(supervisor)
        return WATCH_SECONDS

    def _repair_web(self, supervisor: Supervisor) -> None:
        """Continue the web server's main process if it is stopped, and kill silent web processes.

        The main process replaces them.
        """
        signs: dict[int, int] = {}
        for child in supervisor.children:
            if child.program.role == "web" and child.process:
                if child.continue_if_stopped():
                    text = f"the web server's main process {child.pid} was stopped; it goes on"
                    supervisor.say(text)
                signs |= lifeline.announced(self.state, child.program.name, child.pid)
        for pid in self.silence.look(signs):
            supervisor.say(f"web process {pid} does not answer any more; another takes its place")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_up(self, pids: dict[str, list[int]]) -> bool:
        return all(pids.values()) and ("web" not in pids or service.web_answers())

    def _repair_servers(self, supervisor: Supervisor) -> None:
        try:
            if not os.environ.get("DATABASE_URL"):
                embedded.revive_postgres(self.var)
            if not os.environ.get("REDIS_URL"):
                embedded.redis(self.var)
        except EmbeddedError as problem:
            supervisor.say(str(problem))  # and try again after a second

    def _announce(self, supervisor: Supervisor) -> None:
        if self.role != "all":
            supervisor.say(f"{self.role} is ready")
        elif settings.IS_PRODUCTION:
            supervisor.say(f"AI Movie Task Service is ready at {settings.PUBLIC_URL}")
        else:
            supervisor.show(self._banner())

    def _banner(self) -> str:
        url = settings.PUBLIC_URL
        key = self.login["api_key"]
        receiver = LISTEN_PORT + (settings.PORT == LISTEN_PORT)  # not the service's
        program = Path(sys.executable)
        if program.is_relative_to(settings.BASE_DIR):
            program = program.relative_to(settings.BASE_DIR)
        body = (
            '{"project_id": "test_project", "task_type": "image_generation",'
            f' "callback_url": "http://localhost:{receiver}/",'
            ' "task_data": {"prompt": "Misty mountains at sunrise"}}'
        )
        return f"""
AI Movie Task Service is ready.

  address   {url}   (API documentation: {url}/api/v1/docs)
  API key   {key}
  admin     {url}/admin/   user {self.login["admin_user"]}, password {self.login["admin_password"]}

Try it, with a receiver in another terminal ({program} manage.py listen --port {receiver}):

  curl -sS {url}/api/v1/tasks/submit -H 'X-API-Key: {key}' \\
    -H 'Content-Type: application/json' -d '{body}'

DEVELOPMENT MODE: callbacks may use plain http and may reach this machine (loopback).
In production they go over https to public addresses only. Ctrl-C stops everything.
"""


def _development_login(path: Path) -> dict[str, str]:
    """Return a key with every scope and a superuser's login, kept in a file in clear text.

    Every start returns the same ones as long as the database knows them.
    """
    try:
        kept = dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        kept = {}  # lost or incomplete: new ones are made
    key = kept.get("api_key", "")
    if find_key(key) is None:
        _, key = ApiKey.objects.create_key(name="Development")
    password = kept.get("admin_password") or secrets.token_urlsafe(9)
    admin, _ = get_user_model().objects.get_or_create(
        username=ADMIN_USER, defaults={"is_staff": True, "is_superuser": True}
    )
    if not admin.check_password(password):  # the file or the row is new
        admin.set_password(password)
        admin.save(update_fields=["password"])
    login = {"api_key": key, "admin_user": ADMIN_USER, "admin_password": password}
    write_private(path, login)
    return login


def _require_migrated(supervisor: Supervisor) -> None:
    """Refuse to start one role on a database that lacks migrations; they are not applied here.

    If the database does not answer, the role starts anyway: its processes wait for it.
    """
    try:
        missing = readiness.migrations_pending()
    except Error as problem:
        if not (reason := why_unusable(problem)):
            raise
        supervisor.say(f"not checked whether migrations are missing: {reason}")
        return
    if missing:
        raise CommandError(
            f"The database lacks {missing} migrations. Apply them first: manage.py migrate"
        )


def _collect_static() -> None:
    """Collect and compress the static files (about a second), if one of them changed."""
    found = sorted(
        (path, os.stat(storage.path(path)).st_mtime_ns)
        for finder in get_finders()
        for path, storage in finder.list([])
    )
    mark = hashlib.sha256(repr(found).encode()).hexdigest()
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    if stamp.exists() and stamp.read_text() == mark:
        return
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.write_text(mark)
