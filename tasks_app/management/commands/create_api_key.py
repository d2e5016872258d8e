"""How does an operator make, list and revoke API keys without the admin?"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from tasks_app.access import keys
from tasks_app.models import ALL_SCOPES, ApiKey
from webhooks_app.notation import PROJECT_ID
from webhooks_app.operators.command import OperatorCommand, number, operator, reason_of, whole


class Command(OperatorCommand):
    help = (
        "Create an API key and print it, this once: only a hash is stored. Or --list the keys "
        "there are, or --revoke one, which ends it within a second."
    )
    examples = (
        ('"My app"', "a key that may do everything in all projects"),
        ('"Film team" --project film --scopes read,submit', "for one project, without secrets"),
        (
            '"Partner" --callback-hosts hooks.partner.org --retry-policy durable',
            "whose webhooks go to one host only, and are tried for two days",
        ),
        ("prometheus --scopes read", "for scraping /metrics"),
        ("--list", "prefix, state, project, scopes, last use, name"),
        ('--revoke AbCdEfGh --reason "it leaked"', "the key that begins with AbCdEfGh"),
    )
    exit_codes = {
        0: "done; a new key stands alone on standard output",
        2: "wrong usage; no key was made",
        3: "there is no active key with that prefix",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", default="", help="What the key is for.")
        parser.add_argument("--project", help="The one project the key may touch; default: all.")
        parser.add_argument("--scopes", default=",".join(ALL_SCOPES), help="Comma-separated.")
        parser.add_argument("--expires-in-days", type=number(0.001, 36_500), help="Default: never.")
        parser.add_argument(
            "--rate-limit", type=whole(1, keys.MAX_RATE_LIMIT), help="Requests a minute."
        )
        parser.add_argument(
            "--callback-hosts", default="", help="The only hosts its callbacks may go to; a,b."
        )
        parser.add_argument(
            "--retry-policy", default="", help="Of its tasks: a name, waits such as 1,2,4, or []."
        )
        parser.add_argument(
            "--callback-auth", default="", help="The credential of its tasks' callbacks, by name."
        )
        parser.add_argument("--list", action="store_true", help="List all keys.")
        parser.add_argument("--revoke", metavar="PREFIX", help="Revoke the key with this prefix.")
        parser.add_argument(
            "--reason", help="Why, for the record: needed to revoke; of a new key, if not its name."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            self._list()
        elif options["revoke"]:
            self._revoke(options["revoke"], reason_of(options))
        else:
            self.stdout.write(self._create(options))

    def _create(self, options: dict[str, Any]) -> str:
        name = options["name"]
        # A key's name says what it is for; an empty reason is refused all the same.
        reason = f"for {name}" if options["reason"] is None else reason_of(options)
        if not 1 <= len(name) <= 50:
            raise _usage("Say what the key is for: a name of 1 to 50 characters.")
        project = options["project"]
        if project is not None and not re.fullmatch(PROJECT_ID, project):
            raise _usage(f"A project id matches {PROJECT_ID}.")
        try:
            hosts = keys.hosts_in(options["callback_hosts"])
            policy = keys.policy_in(options["retry_policy"])
            auth = keys.auth_in(options["callback_auth"], project)
        except ValueError as error:
            raise _usage(f"{str(error).rstrip('.')}.") from None
        days = options["expires_in_days"]
        key = ApiKey(
            name=name,
            project_id=project,
            scopes=_scopes(options["scopes"]),
            rate_limit_per_minute=options["rate_limit"],
            callback_hosts=hosts,
            retry_policy=policy,
            callback_auth=auth,
            expiry_date=timezone.now() + timedelta(days=days) if days is not None else None,
        )
        return keys.issue(key, actor=operator(), reason=reason)

    def _list(self) -> None:
        for key in ApiKey.objects.order_by("created"):
            state = "revoked" if key.revoked else "expired" if key.has_expired else "active"
            used = key.last_used_at.isoformat(timespec="seconds") if key.last_used_at else "never"
            scopes = ",".join(key.scopes)
            self.stdout.write(
                f"{key.prefix}  {state:8}  {key.project_id or '(all projects)'}  {scopes}"
                f"  used {used}  {key.name}"
            )

    def _revoke(self, prefix: str, reason: str) -> None:
        if not keys.revoke(prefix, actor=operator(), reason=reason):
            raise CommandError(f"There is no active key with the prefix {prefix}.", returncode=3)
        self.stdout.write(f"Revoked {prefix}.")


def _scopes(text: str) -> list[str]:
    scopes = [scope.strip() for scope in text.split(",") if scope.strip()]
    unknown = [scope for scope in scopes if scope not in ALL_SCOPES]
    if unknown or not scopes:
        raise _usage(f"Scopes are {', '.join(ALL_SCOPES)}; not {', '.join(unknown) or 'none'}.")
    return scopes


def _usage(text: str) -> CommandError:
    return CommandError(text, returncode=2)
