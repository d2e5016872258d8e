"""What may a client hand in, and when can it be used?"""

from tasks_app.assets.remove import delete, prune
from tasks_app.assets.take import Received, receiving, take

__all__ = ["Received", "delete", "fetch", "prune", "receiving", "take"]
