"""How does an operator change the key that encrypts stored signing secrets?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from webhooks_app import operator_record, stored_secrets
from webhooks_app.models import SigningSecret


class Command(BaseCommand):
    """Encrypt every stored signing secret with the newest key."""

    help = (
        "Encrypt every stored signing secret anew with the first of WEBHOOK_SECRET_KEYS. To "
        "change a key: put the new one in front of the old, restart everything, run this, take "
        "the old one away, restart. Receivers notice nothing: the secrets stay the same."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Re-encrypt in batches, with a progress bar on a terminal."""
        done = 0
        try:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                line = bar.add_task("encrypting", total=SigningSecret.objects.count() or None)
                for count in stored_secrets.reencrypt_all():
                    done += count
                    bar.update(line, completed=done)
        except stored_secrets.UnreadableSecret as error:
            raise CommandError(f"{error} ({done} secrets were done before.)") from None
        operator_record.note("command", "secret.reencrypt", f"{done} secrets")
        self.stdout.write(f"{done} secrets are encrypted with the newest key")
