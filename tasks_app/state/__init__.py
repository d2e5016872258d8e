"""How does a task change? The only writer of tasks."""
