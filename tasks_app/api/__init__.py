"""What can a client say of tasks, and what do we answer?"""

__all__ = ["json_format", "openapi"]
