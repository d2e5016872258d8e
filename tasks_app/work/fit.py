"""Does a task still fit its provider, now that its work is to begin?

A submit was held against the configuration of that time, and a file that was still to be fetched
against none at all. Whatever the provider would leave out now ends the task and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks_app.media.inputs import InputFile, inputs_of
from tasks_app.models import Task
from tasks_app.providers.accepts import CODE, file_fault, limits_of
from tasks_app.providers.base import Provider, ProviderError
from tasks_app.providers.remote.base import RemoteProvider

#: Most of a sentence that a client is told, in characters.
TOLD_LIMIT = 500


def require(
    task: Task,
    provider: Provider | RemoteProvider,
    files: Mapping[str, Sequence[InputFile]] | None = None,
) -> None:
    """Let a task pass that its provider takes as it is.

    Args:
        files: its inputs, where they are known already.

    Raises:
        ProviderError: ``unsupported_by_provider`` or ``input_failed``, both final.
    """
    named = task.task_data.get("provider")
    if named not in (None, provider.name):
        raise _refused(CODE, f'It names the provider "{named}"; there is {provider.name} now.')
    if faults := provider.validate(task.task_type, task.task_data):
        raise _refused(CODE, f"{faults[0].pointer}: {faults[0].message}")
    if not task.task_data.get("inputs"):
        return
    accepts = provider.accepts(task.task_type, task.task_data.get("model") or "")
    limits = limits_of(accepts, task.task_type)
    for name, some in (inputs_of(task) if files is None else files).items():
        for file in some:
            if name in limits and (fault := file_fault(file, limits[name])):
                raise _refused("input_failed", f"{name}: {fault[1]}")


def _refused(code: str, text: str) -> ProviderError:
    return ProviderError(code, text, retryable=False, told=text[:TOLD_LIMIT])
