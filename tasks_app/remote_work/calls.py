"""What does a provider need for a call? A connection to the server, and the job as it sees it."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.utils import timezone

from tasks_app import providers
from tasks_app.media.inputs import InputFile
from tasks_app.models import RemoteJob, Task
from tasks_app.providers.base import ProviderError
from tasks_app.providers.remote.base import RemoteProvider, Work
from tasks_app.providers.remote.client import ProviderClient, Unclear, Unreachable
from tasks_app.state import remote, server_rows
from webhooks_app import traces


class Lines:
    """The open connections, one client per server of a provider."""

    def __init__(self) -> None:
        self._clients: dict[tuple[RemoteProvider, str, str], ProviderClient] = {}

    def to(self, provider: RemoteProvider, label: str, model: str) -> ProviderClient:
        """Return the client of a server.

        Raises:
            ProviderError: the server is not configured any more, or may not be called.
        """
        key = (provider, label, model)
        if key not in self._clients:
            servers = {server.label: server for server in provider.servers(model)}
            if label not in servers:
                raise Unreachable(f"The server {label} is not configured.")
            self._clients[key] = ProviderClient(servers[label])
        return self._clients[key]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()


def work_of(
    job: RemoteJob, task: Task | None = None, files: dict[str, list[InputFile]] | None = None
) -> Work:
    """Return a job as its provider sees it; with ``task`` and ``files`` what a submit needs too."""
    base = settings.PROVIDER_CALLBACK_URL
    path = f"/api/v1/providers/{job.provider}/callback/{job.callback_token}"
    return Work(
        job_id=str(job.id),
        task_id=str(job.task_id),
        attempt=job.attempt,
        task_type=job.task_type,
        task_data=task.task_data if task else {},
        model=job.model,
        server=job.server,
        remote=job.remote,
        callback_url=base + path if base else "",
        directory=Path(settings.WORK_ROOT) / str(job.id),
        inputs=files or {},
        seconds_left=max(0, int((job.deadline - timezone.now()).total_seconds())),
    )


def is_unclear(error: ProviderError) -> bool:
    """Say whether a submit that failed may have been received, and paid for.

    A proxy answers 502 or 504 for a server that may be at work; an answer without a usable id says
    that it is.
    """
    has_answered = error.status is None and not isinstance(error, Unreachable)
    is_useless = has_answered and error.code == "provider_unavailable"
    return isinstance(error, Unclear) or error.status in (502, 504) or is_useless


def ids_of(job: RemoteJob) -> dict[str, str]:
    """Return what a log line about a job names."""
    return {
        "task_id": str(job.task_id),
        "job_id": str(job.id),
        "provider": job.provider,
        "server": job.server,
        **traces.log_fields(job.traceparent),
    }


def away(
    job: RemoteJob, provider: RemoteProvider, error: ProviderError, again_seconds: float
) -> None:
    """Let a task wait for its pool while a server is left, or no other provider follows.

    Args:
        again_seconds: how long nothing is sent to the server that is away.
    """
    server_rows.is_busy(job.provider, job.server, again_seconds, is_full=False, note=error.message)
    is_last = providers.get_providers(job.task_type)[-1].name == provider.name
    if is_last or server_rows.free_places(provider.name, provider.servers(job.model)):
        remote.put_back(job)
    else:
        remote.fail(job, error)
