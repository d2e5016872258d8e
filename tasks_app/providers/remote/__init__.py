"""How is media made by a service behind HTTP?"""

__all__ = ["base", "client", "inputs"]
