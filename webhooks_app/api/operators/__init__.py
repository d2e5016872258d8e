"""What may a program see and do in an operator's place? Every route needs the scope ``admin``."""

__all__ = ["destinations", "record"]
