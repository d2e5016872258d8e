"""Which settings let a test wait for the lease of a dead engine? The project's, but shorter."""

from moviesvc.settings import *  # noqa: F403 - a settings module is all names of another
from moviesvc.settings import WEBHOOKS

# A lease is the time-out plus the margin; no send starts with less than the time-out plus 2 s left.
WEBHOOKS["TIMEOUT_SECONDS"] = 1.5
WEBHOOKS["LEASE_MARGIN_SECONDS"] = 2.5
