"""How does work go on while the database cannot be used?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from django.db import Error, close_old_connections

from tasks_app.tickets import stopping
from webhooks_app.database import why_unusable

logger = structlog.get_logger(__name__)
T = TypeVar("T")

#: How soon the end of an attempt is written again: sooner than the sweep gives the task away.
WRITE_AGAIN_SECONDS = 0.5


@contextmanager
def without_database(consequence: str = "") -> Iterator[None]:
    """Go on where the database cannot be used, and log what that means; other errors pass."""
    try:
        yield
    except Error as error:
        if not (reason := why_unusable(error)):
            raise
        if consequence:
            logger.warning("Database cannot be used", reason=reason, consequence=consequence)


def through_outages(write: Callable[[], T]) -> T:
    """Call until the database takes it: what was rendered, or paid for, is not given up.

    Raises:
        LostClaim: the lease ran out meanwhile, and somebody else has the task.
    """
    is_told = False
    while True:
        try:
            return write()
        except Error as error:
            if stopping.is_set() or not (reason := why_unusable(error)):
                raise
            if not is_told:
                logger.warning("Task waits for the database", reason=reason)
                is_told = True
        stopping.wait(WRITE_AGAIN_SECONDS)
        close_old_connections()
