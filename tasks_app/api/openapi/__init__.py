"""How does the API describe itself?"""

__all__ = ["components", "hooks"]
