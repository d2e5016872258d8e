"""What may an operator do, and how is it told?"""

__all__ = ["command", "destinations", "endpoints", "explain", "ping", "record", "replay"]
