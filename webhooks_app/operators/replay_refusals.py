"""Why is a replay refused? Each reason has a code that clients know."""

from __future__ import annotations

from collections.abc import Collection, Sequence

#: So many are named where several projects are too many.
SHOWN_PROJECTS = 10


class ReplayRefused(Exception):
    """A replay is not possible. ``code`` is documented for clients."""

    code = "refused"


class InFlight(ReplayRefused):
    """An attempt of the message is under way."""

    code = "in_flight"


class DestinationDisabled(ReplayRefused):
    """The message's destination is disabled; nothing is sent there until it is enabled."""

    code = "destination_disabled"


class NotRunning(ReplayRefused):
    """The replay has ended already."""

    code = "not_running"


class ReasonMissing(ReplayRefused):
    """It changes the target, or means more than one message, and nobody said why."""

    code = "required"


class SeveralProjects(ReplayRefused):
    """One URL would receive the events of several projects, and nobody said yes to that."""

    code = "several_projects"

    def __init__(self, projects: Collection[str], fresh: Collection[str] = ()) -> None:
        self.projects = sorted(projects)
        text = f"one URL would receive the events of {names_of(self.projects)}"
        if fresh:
            text = f"messages of {names_of(sorted(fresh))} came to match meanwhile; look again"
        super().__init__(text)


def names_of(projects: Sequence[str]) -> str:
    """Return a few projects by name, and the number of them all."""
    named = ", ".join(projects[:SHOWN_PROJECTS])
    more = ", ..." * (len(projects) > SHOWN_PROJECTS)
    return f"{len(projects)} project{'s' * (len(projects) != 1)} ({named}{more})"
