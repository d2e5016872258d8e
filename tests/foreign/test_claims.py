"""Do engines that race share the messages fairly, and none twice, on foreign servers too?"""

from __future__ import annotations

import pytest

from tests.tasks.state.test_claim_plan import test_the_settings_of_a_claim_end_with_it  # noqa: F401
from tests.webhooks.conftest import engine, receiver  # noqa: F401 - fixtures
from tests.webhooks.delivery.test_engine import (  # noqa: F401 - the same tests, on other servers
    test_many_messages_race_free_over_two_engines,
)
from tests.webhooks.delivery.test_engine_pacing import (  # noqa: F401
    test_project_with_many_hanging_origins_leaves_seats_for_the_others,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("foreign_database")]
