"""Does a process refuse to start if it could sign nothing, and say what to do?"""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from tests.support import processes
from webhooks_app.signing.store import get_or_create

pytestmark = pytest.mark.django_db(transaction=True)

PROGRAMS = {
    "delivery": ("manage.py", "deliver_webhooks"),
    "web": ("-c", "import moviesvc.wsgi"),
    "worker": ("manage.py", "rundramatiq", "-p", "1", "-t", "1", "--skip-logging"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_process_with_the_wrong_key_does_not_boot(name: str) -> None:
    """Delivery, web and worker end at once with a sentence that names the setting."""
    get_or_create("some_project")
    ended = processes.run(*PROGRAMS[name], SECRET_KEY="another key than the one that encrypted")
    assert ended.returncode != 0
    assert "a stored signing secret cannot be decrypted" in ended.stderr
    assert "WEBHOOKS['SECRET_KEYS']" in ended.stderr
    assert "whsec_" not in ended.stderr + ended.stdout
    if name == "delivery":
        assert "Traceback" not in ended.stderr


def test_new_key_in_front_of_the_old_one_boots() -> None:
    """A newly added key has encrypted nothing yet, and older secrets can still be read."""
    get_or_create("some_project")
    key = Fernet.generate_key().decode()
    ended = processes.run(*PROGRAMS["web"], WEBHOOK_SECRET_KEYS=key)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_database_out_of_reach_is_no_reason_to_refuse() -> None:
    """A web process starts although the database is unreachable; it will reconnect later."""
    away = "postgresql://postgres@/movies?host=/nonexistent"
    ended = processes.run(*PROGRAMS["web"], DATABASE_URL=away)
    assert ended.returncode == 0, ended.stderr
