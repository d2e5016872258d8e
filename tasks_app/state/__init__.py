"""How does a task change? The only writer of tasks, and of their jobs at providers."""

__all__ = ["estimates", "lifecycle", "remote", "remote_jobs", "statements", "submit"]
