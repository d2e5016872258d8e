"""Where do files lie, and what is in them?"""

__all__ = ["mark", "probe", "serve", "store"]
