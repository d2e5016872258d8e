"""Where are media files stored, and what is in them?"""

__all__ = ["inputs", "mark", "previews", "probe", "serve", "staging", "store"]
