"""Does the delivery engine work the same on foreign servers as on the embedded one?"""

from __future__ import annotations

import pytest

from tests.webhooks.conftest import count_logged, engine, receiver  # noqa: F401 - fixtures
from tests.webhooks.delivery.test_engine import (  # noqa: F401 - the same tests, on other servers
    test_due_message_is_delivered_once_and_recorded,
    test_exhausted_policy_is_a_dead_letter,
    test_expired_lease_is_interrupted_and_sent_again,
    test_failing_receiver_gets_policy_then_success,
    test_stopping_hands_back_what_is_in_flight,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("foreign_database")]
