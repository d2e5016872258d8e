"""What is repaired, and what is thrown away?"""

__all__ = ["orphans", "prune", "sweep"]
