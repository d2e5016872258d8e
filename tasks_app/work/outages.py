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

#: Wait between two tries to write the end of an attempt; shorter than the sweep's interval.
WRITE_AGAIN_SECONDS = 0.5


@contextmanager
def without_database(consequence: str = "") -> Iterator[None]:
    """Ignore errors of an unusable database and log what that means; other errors are raised."""
    try:
        yield
    except Error as error:
        if not (reason := why_unusable(error)):
            raise
        if consequence:
            logger.warning("Database cannot be used", reason=reason, consequence=consequence)


def through_outages(write: Callable[[], T]) -> T:
    """Repeat the call until the database accepts it, so that finished work is not lost.

    Raises:
        LostClaim: the lease expired meanwhile, and another worker has the task.
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
