"""How does one command run all of it on one machine?

Who runs the roles by other means, such as compose.yaml, needs none of this.
"""

__all__ = ["embedded", "lifeline", "lock_file", "secret_file", "watchdog"]
