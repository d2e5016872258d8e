"""How does a task change? The only writer of tasks."""

__all__ = ["estimates", "lifecycle", "statements", "submit"]
