"""How do the figures of many processes become one?"""

__all__ = ["processes", "view"]
