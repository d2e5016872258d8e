"""What can a client do with tasks, and what do we answer?"""

__all__ = ["json_format", "openapi"]
