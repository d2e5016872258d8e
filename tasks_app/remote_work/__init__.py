"""Who looks after work at providers elsewhere? One asyncio loop in each worker process."""

from tasks_app.remote_work.loop import RemoteWorkThread

__all__ = ["RemoteWorkThread"]
