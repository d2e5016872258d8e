"""What may an operator do, and how is the state of a message explained?"""

__all__ = [
    "command",
    "credentials",
    "destinations",
    "endpoints",
    "explain",
    "moments",
    "ping",
    "record",
    "replay",
    "replay_preview",
    "replay_progress",
    "replay_refusals",
    "set_aside",
    "trial",
]
