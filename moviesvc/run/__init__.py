"""How does one command run all of it on one machine?

compose.yaml and other ways to run the processes need nothing of this folder.
"""

__all__ = ["collector", "embedded", "lifeline", "lock_file", "secret_file", "watchdog"]
