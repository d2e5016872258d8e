"""What may an operator do, and how is the state of a message explained?"""

__all__ = [
    "command",
    "credentials",
    "destinations",
    "endpoints",
    "explain",
    "ping",
    "record",
    "replay",
    "trial",
]
