"""How does an operator list, add, change, try out and delete credentials from the command line?"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from webhooks_app.credentials import CLIENT_AUTHS, NAME, NAME_SHAPE, PARTS, BadCredential
from webhooks_app.egress import EgressDenied
from webhooks_app.models import Credential, CredentialKind
from webhooks_app.notation import PROJECT_ID, PROJECT_ID_SHAPE, rfc3339
from webhooks_app.operators import credentials, trial
from webhooks_app.operators.command import OperatorCommand, add_reason, operator, reason_of
from webhooks_app.shown import visible

USAGE, ABSENT, NOT_DELIVERED = 2, 3, 1
MAX_BYTES = 64_000
#: Parts that may stand on the command line, since they are no secrets.
PUBLIC = ("username", "token_url", "client_id", "oauth_scope", "audience", "client_auth")


class Command(OperatorCommand):
    help = (
        "List, add, change, delete or try out the credentials that callbacks carry. Each belongs "
        "to a project and goes to its origins only."
        "\n\nA secret is read from a file, or from standard input where the file is named -; never "
        "from the command line, which other users of the machine can see. Of the kind headers the "
        "file has a line `Name: value` for each; of a client certificate, --secret-file is its key."
    )
    examples = (
        ("list film", "the credentials of the project film"),
        (
            "add film gateway bearer --origin https://hooks.example.org --secret-file token.txt"
            ' --reason "their gateway asks for it"',
            "a bearer token",
        ),
        (
            "add film login oauth2 --origin https://hooks.example.org --client-id us "
            "--token-url https://login.example.org/token --secret-file - --reason setup",
            "OAuth 2, its secret from standard input",
        ),
        (
            "add film mtls client_certificate --origin https://hooks.example.org "
            "--certificate chain.pem --secret-file key.pem --reason setup",
            "a client certificate",
        ),
        ("change film gateway --secret-file new.txt --reason rotated", "a new secret"),
        ("test film gateway --url https://hooks.example.org/hook", "what does the receiver say?"),
        ("delete film gateway --reason replaced", "once nothing uses it"),
    )
    exit_codes = {
        0: "done; of test: the receiver's answer would count as delivered",
        NOT_DELIVERED: "of test: it would not",
        USAGE: "wrong usage, or refused; nothing was changed",
        ABSENT: "the project has no credential of that name",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "action", choices=["list", "add", "change", "delete", "test"], help="What to do."
        )
        parser.add_argument("project", nargs="?", default="", help="Its id; list: all without.")
        parser.add_argument("name", nargs="?", default="", help="The credential's name.")
        parser.add_argument("kind", nargs="?", default="", help=", ".join(CredentialKind.values))
        parser.add_argument(
            "--origin",
            action="append",
            help="https://host[:port]; repeatable. change: all of them.",
        )
        parser.add_argument("--secret-file", metavar="FILE", help="- is standard input.")
        parser.add_argument("--certificate", metavar="FILE", help="PEM, its chain behind.")
        parser.add_argument("--username", help="basic")
        parser.add_argument("--token-url", help="oauth2")
        parser.add_argument("--client-id", help="oauth2")
        parser.add_argument("--oauth-scope", help="oauth2: the scopes to ask for.")
        parser.add_argument("--audience", help="oauth2")
        parser.add_argument(
            "--client-auth", choices=CLIENT_AUTHS, help="oauth2: where the client names itself."
        )
        parser.add_argument("--url", help="test: where to send the ping.")
        add_reason(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        project = options["project"]
        if project and not re.fullmatch(PROJECT_ID, project):
            raise _usage(PROJECT_ID_SHAPE)
        if options["action"] == "list":
            self._list(project)
            return
        if not project or not options["name"]:
            raise _usage("Name the project and the credential.")
        if options["action"] != "test":
            reason_of(options)
        try:
            getattr(self, f"_{options['action']}")(project, options["name"], options)
        except BadCredential as bad:
            parts = (f"{_option_of(name)}: {text}" for name, text in bad.problems.items())
            raise _usage("\n".join(parts)) from None
        except (credentials.CredentialRefused, credentials.NotBound, EgressDenied) as refused:
            text = str(refused).rstrip(".")
            raise _usage(f"{text[:1].upper()}{text[1:]}.") from None

    def _list(self, project: str) -> None:
        rows = Credential.objects.defer("ciphertext").order_by("scope", "name")
        for row in rows.filter(scope=project) if project else rows:
            ends = f"  ends {rfc3339(row.expires_at, 'seconds')}" if row.expires_at else ""
            origins = " ".join(row.origins)
            self.stdout.write(f"{row.scope}  {row.name}  {row.kind}  {origins}{ends}")

    def _add(self, project: str, name: str, options: dict[str, Any]) -> None:
        kind = options["kind"]
        if kind not in PARTS:
            raise _usage(f"A kind is one of: {', '.join(PARTS)}.")
        if not re.fullmatch(NAME, name):
            raise _usage(NAME_SHAPE)
        how = {"actor": operator(), "reason": options["reason"]}
        given = _given(kind, options)
        row = credentials.create(project, name, kind, options["origin"] or [], given, **how)
        self.stdout.write(f"added {row.name}: {row.kind} for {' '.join(row.origins)}")

    def _change(self, project: str, name: str, options: dict[str, Any]) -> None:
        row = _found(project, name)
        how = {"actor": operator(), "reason": options["reason"]}
        given = _given(row.kind, options)
        row = credentials.change(row, origins=options["origin"], given=given, **how)
        self.stdout.write(f"changed {row.name}: {row.kind} for {' '.join(row.origins)}")

    def _delete(self, project: str, name: str, options: dict[str, Any]) -> None:
        credentials.delete(_found(project, name), actor=operator(), reason=options["reason"])
        self.stdout.write(f"deleted {name}")

    def _test(self, project: str, name: str, options: dict[str, Any]) -> None:
        row = _found(project, name)
        if not options["url"]:
            raise _usage("Name a URL of its origins with --url.")
        result = trial.send_test(row, options["url"], actor=operator(), reason=options["reason"])
        came = f"status {result.status}" if result.status else result.error
        verdict = "would not count as delivered" if result.error_code else "counts as delivered"
        self.stdout.write(f"{came} after {result.duration_ms:.0f} ms: {verdict}")
        if result.response_body:
            self.stdout.write(visible(result.response_body[:2000]))
        if result.error_code:
            sys.exit(NOT_DELIVERED)


def _given(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {name: options[name] for name in PUBLIC if options[name] is not None}
    if options["certificate"]:
        given["certificate"] = _text_in(options["certificate"])
    if options["secret_file"]:
        text = _text_in(options["secret_file"])
        is_pem = kind == CredentialKind.CLIENT_CERTIFICATE
        secret = text if is_pem else text.removesuffix("\n").removesuffix("\r")
        given[PARTS[kind][0]] = _headers_in(text) if kind == CredentialKind.HEADERS else secret
    return given


def _headers_in(text: str) -> dict[str, str]:
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if any(not colon for _, colon, _ in pairs):
        raise _usage("Each line of the file is `Name: value`.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _text_in(path: str) -> str:
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if path == "-" else Path(path).read_bytes()
        if len(data) > MAX_BYTES:
            raise _usage(f"{path} has more than {MAX_BYTES} bytes.")
        return data.decode()
    except OSError as error:
        raise _usage(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _usage(f"{path} is no text.") from None


def _found(project: str, name: str) -> Credential:
    row = Credential.objects.filter(scope=project, name=name).first()
    if row is None:
        text = f"The project {project} has no credential {name!r}; `credential list` shows all."
        raise CommandError(text, returncode=ABSENT)
    return row


def _option_of(part: str) -> str:
    if part in {parts[0] for parts in PARTS.values()}:
        return "--secret-file"
    return "--origin" if part == "origins" else f"--{part.replace('_', '-')}"


def _usage(text: str) -> CommandError:
    return CommandError(text, returncode=USAGE)
