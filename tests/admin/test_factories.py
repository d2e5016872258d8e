"""Do the factories make rows that the database accepts?"""

from __future__ import annotations

import pytest

from tasks_app.models import ApiKey, TaskStatus
from tests.support import factories
from webhooks_app.models import MessageStatus

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", TaskStatus.values)
def test_task_of_every_status_can_be_made(status: str) -> None:
    """Shows that the times of a made task satisfy the table's constraint."""
    task = factories.make_task(status)
    assert task.is_terminal == (task.finished_at is not None)


@pytest.mark.parametrize("status", MessageStatus.values)
def test_message_of_every_status_can_be_made(status: str) -> None:
    """Shows that the due time of a made message satisfies the table's constraint."""
    message = factories.make_message(status)
    assert message.destination.origin == "https://receiver.example.org"


def test_dead_letter_has_its_attempts() -> None:
    """Shows that attempts are numbered and counted."""
    message = factories.make_dead_letter(attempts=3)
    assert [d.attempt_number for d in message.deliveries.order_by("id")] == [1, 2, 3]
    assert message.attempt_count == 3


def test_key_is_found_by_its_clear_text(api_key: str) -> None:
    """Shows that the clear text belongs to the stored key, whose id is its prefix."""
    key = ApiKey.objects.get_from_key(api_key)
    assert key.pk == key.prefix


def test_other_rows_can_be_made() -> None:
    """Shows that the remaining factories satisfy their tables."""
    factories.make_media_file()
    factories.make_endpoint()
    factories.make_replay()
    factories.make_operator_action()
