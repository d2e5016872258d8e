"""Who asks, and how often?"""

__all__ = ["authentication", "keys", "throttling"]
