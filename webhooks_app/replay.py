"""How is a message sent again, at whose wish and how fast? (Bulk replays land here.)"""


def advance_running_jobs() -> int:
    """Move running replays on; returns the messages set going."""
    return 0
