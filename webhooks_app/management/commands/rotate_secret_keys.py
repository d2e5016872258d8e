"""How does an operator change the key that encrypts stored signing secrets and credentials?"""

from __future__ import annotations

from itertools import chain
from typing import Any

from django.core.management.base import CommandError, CommandParser

from webhooks_app.credentials import store as credentials
from webhooks_app.models import Credential, SigningSecret
from webhooks_app.notation import counted
from webhooks_app.operators import record
from webhooks_app.operators.command import (
    OperatorCommand,
    add_reason,
    operator,
    progress,
    reason_of,
)
from webhooks_app.signing import store


class Command(OperatorCommand):
    help = (
        "Encrypt every stored signing secret and credential anew with the first key of "
        "WEBHOOKS['SECRET_KEYS']. To change a key: put the new one in front of the old, restart "
        "everything, run this, take the old one away, restart. Receivers notice "
        "nothing: the secrets stay the same."
    )
    examples = (
        ('--reason "yearly"', "after a new key was put in front of WEBHOOKS['SECRET_KEYS']"),
    )
    exit_codes = {
        0: "every secret is encrypted with the newest key",
        2: "no reason was given; nothing was changed",
        1: "a secret cannot be read with the keys given; those before it are done",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        add_reason(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        total, done = SigningSecret.objects.count() + Credential.objects.count(), 0
        # Before the first one: a run that ends half-way has changed some.
        record.note(operator(), "secret.reencrypt", counted(total, "secret"), reason_of(options))
        try:
            with progress("encrypting", total) as bar:
                for count in chain(store.reencrypt_all(), credentials.reencrypt_all()):
                    done += count
                    bar.moved(done)
        except store.UnreadableSecret as error:
            raise CommandError(f"{error} ({counted(done, 'secret')} done before.)") from None
        self.stdout.write(f"{counted(done, 'secret')} encrypted with the newest key")
