"""How is one claimed task seen through?"""

from tasks_app.work.run import run_next

__all__ = ["run_next"]
