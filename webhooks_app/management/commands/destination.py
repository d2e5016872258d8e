"""How does an operator pause, disable or mute receivers from the command line?"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from webhooks_app.models import WebhookDestination
from webhooks_app.notation import counted
from webhooks_app.operators import destinations
from webhooks_app.operators.command import (
    OperatorCommand,
    add_reason,
    confirm,
    operator,
    reason_of,
)
from webhooks_app.operators.destinations import DONE, LONGEST, Act
from webhooks_app.operators.explain import seconds_text, standing
from webhooks_app.outbox import InvalidFilter, who
from webhooks_app.shown import visible

LIST = "list"
SHOWN = 20
NOTHING_FOUND = 3
#: How long each lasts where nothing is said.
USUAL_SECONDS = {Act.PAUSE: 1_800, Act.MUTE: 43_200}
_LENGTH = re.compile(r"([0-9]{1,6}) ?(s|min|m|h|d)?")
_UNITS = {"s": 1, None: 60, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


class Command(OperatorCommand):
    help = (
        "Pause, disable or mute destinations, undo it, or list them. A host or an origin means "
        "that receiver in every project; --project only there. Before anything happens it shows "
        "which destinations are meant, and asks."
        "\n\nA pause ends by itself, and what waits loses no retry. What is disabled stays so "
        "until it is enabled; what waited there becomes dead letters, which can be replayed. "
        "Of a muted one nobody is told that it fails; messages are sent to it as before."
    )
    examples = (
        ("list", "what is held back, failing, muted or disabled"),
        ('pause hooks.example.org --for 2h --reason "they deploy"', "in all projects"),
        ('resume --all --reason "the network is back"', "let everything go on at once"),
        ('mute hooks.example.org --for 12h --reason "they know"', "no alert for a while"),
        ('disable https://hooks.example.org:8443 --project film --reason "left"', "one origin"),
    )
    exit_codes = {
        0: "done",
        2: "wrong usage, no reason, or nobody said yes; nothing was changed",
        NOTHING_FOUND: "there is no such destination, or none that this would change",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=[*Act, LIST], help="What to do.")
        parser.add_argument("place", nargs="?", default="", help="Host, host:port or origin.")
        parser.add_argument("--project", default="", help="Only as this project sees it.")
        parser.add_argument("--all", action="store_true", help="Every destination.")
        add_reason(parser)
        parser.add_argument("--for", default="", dest="length", help="Of a pause or mute: 30m, 2h.")
        parser.add_argument("--until", default="", help="18:30 or ISO 8601; in UTC.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        place = self._place(options)
        scope = options["project"] or None
        if options["action"] == LIST:
            self._list(place, scope, is_all=options["all"])
            return
        act, reason = Act(options["action"]), reason_of(options)
        seconds = _seconds(act, options["length"], options["until"])
        rows = destinations.meant(act, place, scope)
        self._preview(act, rows, place)
        confirm(f"{act.capitalize()} them?", options, otherwise="Nothing was changed.")
        count = destinations.act_on(act, rows, actor=operator(), reason=reason, seconds=seconds)
        for_time = f" for {seconds_text(seconds)}" if seconds else ""
        verb = "is" if count == 1 else "are"
        self.stdout.write(f"{counted(count, 'destination')} {verb} {DONE[act]}{for_time}.")

    def _place(self, options: dict[str, Any]) -> who.Place | None:
        try:
            if options["project"]:
                who.read_project(options["project"])
            if options["place"] and not options["all"]:
                return who.read_place(options["place"])
        except InvalidFilter as refused:
            raise _usage(str(refused)) from None
        if options["place"]:
            raise _usage("A receiver, or --all: not both.")
        if not options["all"] and options["action"] != LIST:
            raise _usage("Which ones? Name a host or an origin, or say --all.")
        return None

    def _list(self, place: who.Place | None, scope: str | None, *, is_all: bool) -> None:
        rows = WebhookDestination.objects.order_by("host", "port", "scope")
        rows = rows.filter(place.condition) if place else rows
        rows = rows.filter(scope=scope) if scope else rows
        count, now = 0, datetime.now(UTC)
        for row in rows.iterator():
            words = standing(row, now)[1]
            muted = row.muted_until and row.muted_until > now
            if not place and not is_all and words == "healthy" and not muted:
                continue
            count += 1
            why = row.disabled_reason if row.disabled_at else ""
            if row.held_until and row.held_until > now and not row.disabled_at:
                why = f"until {row.held_until:%Y-%m-%d %H:%M:%S} UTC"
            why += f"  muted until {row.muted_until:%Y-%m-%d %H:%M} UTC" if muted else ""
            self.stdout.write(f"{words:12}  {row}  {visible(why)}".rstrip())
        if not count:
            found = "No destination is held back, failing, muted or disabled; --all lists all."
            self.stdout.write("There is no such destination." if place or is_all else found)

    def _preview(
        self, act: Act, rows: QuerySet[WebhookDestination], place: who.Place | None
    ) -> None:
        count = rows.count()
        if not count:
            where = f" at {place}" if place else ""
            raise CommandError(
                f"There is no destination{where} to {act}.", returncode=NOTHING_FOUND
            )
        projects = rows.values("scope").distinct().count()
        self.stdout.write(
            f"{act} {counted(count, 'destination')} of {counted(projects, 'project')}:"
        )
        for row in rows.order_by("host", "scope")[:SHOWN]:
            self.stdout.write(f"  {row}")
        if count > SHOWN:
            self.stdout.write("  ...")


def _seconds(act: Act, length: str, until: str) -> int:
    if act not in LONGEST:
        if length or until:
            raise _usage(f"--for and --until go with {' and '.join(LONGEST)} alone.")
        return 0
    if length and until:
        raise _usage("Give --for or --until, not both.")
    seconds = _until(until) if until else _length(length) if length else USUAL_SECONDS[act]
    if not 1 <= seconds <= LONGEST[act]:
        instead = "; disable it instead" if act == Act.PAUSE else ""
        raise _usage(f"{act.capitalize()} it for 1 s to {seconds_text(LONGEST[act])}{instead}.")
    return seconds


def _length(text: str) -> int:
    found = _LENGTH.fullmatch(text.strip().lower())
    if not found:
        raise _usage("--for is a time such as 90s, 30m or 2h.")
    return int(found[1]) * _UNITS[found[2]]


def _until(text: str) -> int:
    now = datetime.now(UTC)
    try:
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text):
            hour, minute = map(int, text.split(":"))
            end = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            end += timedelta(days=end <= now)
        else:
            end = datetime.fromisoformat(text)
            end = end if end.tzinfo else end.replace(tzinfo=UTC)
        return round((end - now).total_seconds())
    except (ValueError, OverflowError):
        raise _usage("--until is a time such as 18:30 or 2025-01-15T18:30.") from None


def _usage(text: str) -> CommandError:
    return CommandError(text, returncode=2)
