"""How does what is due become a recorded attempt?"""

from webhooks_app.delivery.engine import Engine
from webhooks_app.delivery.thread import EngineThread, tune_garbage_collector

__all__ = ["Engine", "EngineThread", "tune_garbage_collector"]
