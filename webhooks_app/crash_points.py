"""Where can a process be made to die, fail or freeze, in tests of crash safety?

Does nothing unless ``FAULT_INJECTION=1`` is in the environment; production settings refuse that
variable. ``FAULTS=name:kill@2,other:sleep:0.5`` acts on the n-th hit (default 1): ``kill``
(SIGKILL), ``freeze`` (SIGSTOP), ``raise``, ``sleep:seconds``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

_hits: Counter[str] = Counter()
_is_enabled = os.environ.get("FAULT_INJECTION") == "1"


class InjectedFault(RuntimeError):
    """Raised at a fault point whose action is ``raise``."""


def faultpoint(name: str) -> None:
    """Perform the action that ``FAULTS`` gives for this point, if any."""
    if not _is_enabled:
        return
    _hits[name] += 1
    for entry in os.environ.get("FAULTS", "").split(","):
        point, _, action = entry.partition(":")
        action, _, nth = action.partition("@")
        if point == name and _hits[name] == int(nth or 1):
            os.write(2, f"fault injected: {entry}\n".encode())
            _act(action)


def _act(action: str) -> None:
    verb, _, value = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "freeze":
        # Sent to this thread: a signal to the process may let this thread run on for some lines.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    if verb == "raise":
        raise InjectedFault(value)
    if verb == "sleep":
        time.sleep(float(value))
