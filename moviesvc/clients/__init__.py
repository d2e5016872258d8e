"""What if a client is slow: at reading a file, or at sending one?"""

__all__ = ["connections", "transfers", "uploads"]
