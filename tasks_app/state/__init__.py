"""How does a task change, and a file's row? The only writer of tasks, and of their remote jobs."""

__all__ = [
    "assets",
    "costs",
    "estimates",
    "find",
    "idempotency",
    "inputs",
    "lifecycle",
    "projects",
    "remote",
    "remote_jobs",
    "server_rows",
    "statements",
    "submit",
]
