"""How does a worker run one claimed task to its end?"""

from tasks_app.work.run import run_next

__all__ = ["claim_watch", "fit", "outages", "run", "run_next"]
