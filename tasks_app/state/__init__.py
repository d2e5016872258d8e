"""How does a task change, and a file's row? The only writer of tasks, and of their remote jobs."""

__all__ = [
    "assets",
    "estimates",
    "idempotency",
    "inputs",
    "lifecycle",
    "remote",
    "remote_jobs",
    "statements",
    "submit",
]
