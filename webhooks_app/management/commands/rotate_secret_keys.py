"""How does an operator change the key that encrypts stored signing secrets?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from webhooks_app.models import SigningSecret
from webhooks_app.operators import record
from webhooks_app.operators.command import OperatorCommand, progress
from webhooks_app.signing import store


class Command(OperatorCommand):
    help = (
        "Encrypt every stored signing secret anew with the first key of WEBHOOKS['SECRET_KEYS']. "
        "To change a key: put the new one in front of the old, restart everything, run this, take "
        "the old one away, restart. Receivers notice nothing: the secrets stay the same."
    )
    examples = (("", "after a new key was put in front of WEBHOOKS['SECRET_KEYS']"),)
    exit_codes = {
        0: "every secret is encrypted with the newest key",
        1: "a secret cannot be read with the keys given; those before it are done",
    }

    def handle(self, *args: Any, **options: Any) -> None:
        done = 0
        try:
            with progress("encrypting", SigningSecret.objects.count()) as bar:
                for count in store.reencrypt_all():
                    done += count
                    bar.moved(done)
        except store.UnreadableSecret as error:
            raise CommandError(f"{error} ({done} secrets were done before.)") from None
        record.note("command", "secret.reencrypt", f"{done} secrets")
        self.stdout.write(f"{done} secrets are encrypted with the newest key")
