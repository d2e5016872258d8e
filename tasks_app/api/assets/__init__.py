"""What can a client do with assets, and how is an upload read?"""

__all__ = ["uploads", "views"]
