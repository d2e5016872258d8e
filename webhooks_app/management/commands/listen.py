"""What does a receiver see? A small one for development: it prints and verifies webhooks."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import Any

from aiohttp import web
from django.core.management.base import CommandError, CommandParser
from django.db import DataError, connection
from rich.console import Console
from rich.text import Text

from webhooks_app.models import SigningSecret
from webhooks_app.notation import PROJECT_ID
from webhooks_app.operators.command import OperatorCommand, number, whole
from webhooks_app.signing import store
from webhooks_app.signing.scheme import InvalidSecret, verify

MAX_BODY_BYTES = 4_194_304


class Command(OperatorCommand):
    help = (
        "Receive webhooks on a local port, print them, and verify their signatures. The secrets "
        "of this installation verify: those of --project, else of the project that a webhook "
        "names; with --secret the one given does. "
        "--answer 500 makes it a failing receiver, --delay a slow one. With --count it ends by "
        "itself."
    )
    examples = (
        ("", "then submit with callback_url http://127.0.0.1:8002/"),
        ("--answer 503 --delay 2", "a slow receiver that fails"),
        ("--port 0 --count 1 --project film", "in a script: one webhook, then the exit code"),
    )
    exit_codes = {
        0: "ended by Ctrl-C or SIGTERM; with --count: every webhook verified",
        1: "with --count: a webhook did not verify",
        2: "wrong usage, or the port cannot be listened on",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--port", type=whole(0, 65_535), default=8002, help="Default 8002; 0: any free."
        )
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
        parser.add_argument("--project", default="", help="Verify with this project's secrets.")
        parser.add_argument("--secret", action="append", default=[], help="whsec_... or whpk_...")
        parser.add_argument(
            "--answer", type=whole(200, 599), default=204, help="Status to answer with."
        )
        parser.add_argument(
            "--delay", type=number(0, 3600), default=0.0, help="Seconds before the answer."
        )
        parser.add_argument(
            "--count", type=whole(0, 1_000_000), default=0, help="End after so many."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        secrets = list(options["secret"])
        if options["project"]:
            if not re.fullmatch(PROJECT_ID, options["project"]):
                raise CommandError(f"A project's id matches {PROJECT_ID}.", returncode=2)
            secrets += store.current_secrets(options["project"])
        listener = Listener(secrets, options, Console(highlight=False, soft_wrap=True))
        try:
            asyncio.run(listener.run())
        except (OSError, UnicodeError) as error:  # the latter: a name that no host can have
            reason = getattr(error, "strerror", "") or "there can be no host of that name"
            raise CommandError(f"Cannot listen there: {reason}.", returncode=2) from None
        if options["count"] and not listener.is_all_verified:
            raise SystemExit(1)


class Listener:
    """A receiver of webhooks on one port."""

    def __init__(self, secrets: list[str], options: dict[str, Any], console: Console) -> None:
        self._secrets = secrets
        self._options = options
        self._console = console
        self._received = 0
        self._verified = 0
        self._done = asyncio.Event()

    @property
    def is_all_verified(self) -> bool:
        return 0 < self._received == self._verified

    async def run(self) -> None:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._receive)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, self._options["host"], self._options["port"])
        try:
            await site.start()
            port = runner.addresses[0][1]
            self._console.print(f"listening on http://{self._options['host']}:{port}/")
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._done.set)
            await self._done.wait()
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        secrets = self._secrets or await asyncio.to_thread(_secrets_of_sender, body)
        self._print(request, body, secrets)
        await asyncio.sleep(self._options["delay"])
        if self._options["count"] and self._received >= self._options["count"]:
            # After the answer has left, not before.
            asyncio.get_running_loop().call_later(0.2, self._done.set)
        return web.Response(status=self._options["answer"])

    def _print(self, request: web.Request, body: bytes, secrets: list[str]) -> None:
        self._received += 1
        verdict, style = self._verdict(request, body, secrets)
        names = ("webhook-event", "webhook-id", "webhook-attempt")
        heads = "  ".join(_plain(request.headers.get(name, "-")) for name in names)
        if gap := request.headers.get("webhook-skipped"):
            heads += f"  skipped {_plain(gap)}"
        self._console.print(Text(f"{request.method} {_plain(request.path)}  {heads}"))
        self._console.print(Text(verdict, style=style))
        self._console.print(Text(_pretty(body)))

    def _verdict(self, request: web.Request, body: bytes, secrets: list[str]) -> tuple[str, str]:
        if not secrets:
            return "signature not checked (give --project or --secret)", "yellow"
        try:
            is_authentic = verify(secrets, dict(request.headers), body)
        except InvalidSecret as error:
            return f"the secret given is none: {error}", "red"
        self._verified += is_authentic
        if is_authentic:
            return "signature verified", "green"
        return "SIGNATURE DOES NOT VERIFY", "bold red"


def _secrets_of_sender(body: bytes) -> list[str]:
    """Return the secrets of the project that a body names, [] if it does not exist here.

    It is safe that the body chooses the secrets: the signature must still fit one of them.
    """
    try:
        project = json.loads(body)["project_id"]
        if SigningSecret.objects.filter(scope=str(project)).exists():
            return store.current_secrets(str(project))
    except (ValueError, TypeError, KeyError, RecursionError, DataError):
        pass  # not a body of ours
    finally:
        connection.close()  # this thread's own
    return []


def _pretty(body: bytes) -> str:
    try:
        return _plain(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return _plain(body.decode(errors="replace"))


def _plain(text: str) -> str:
    """Return text without control characters for a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
