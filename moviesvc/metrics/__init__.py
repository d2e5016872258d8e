"""How are the figures of many processes added up?"""

__all__ = ["processes", "view"]
