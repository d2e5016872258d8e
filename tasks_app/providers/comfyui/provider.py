"""How does a pool of ComfyUI servers make a task's media? Templates, filled, queued and watched.

The id of a job is its prompt id, which is stored before the submit: what a crash or a lost answer
leaves unclear is looked for, and not sent again. A job that a server has forgotten, or whose server
is silent, starts anew on another.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks_app.providers.accepts import Accepts, model_faults, refusals
from tasks_app.providers.base import CancelOutcome, FieldError, ProviderError
from tasks_app.providers.comfyui import graphs, pool, server, templates, wanted
from tasks_app.providers.comfyui.events import Progress, picture_in
from tasks_app.providers.comfyui.graphs import BadValue
from tasks_app.providers.comfyui.server import JobStage, State
from tasks_app.providers.comfyui.templates import Template
from tasks_app.providers.remote.base import (
    Busy,
    JobStatus,
    RemoteProvider,
    Submitted,
    UnknownJob,
    Work,
    WorkFailed,
)
from tasks_app.providers.remote.client import ProviderClient, Server
from tasks_app.task_types import TASK_TYPES

if TYPE_CHECKING:
    from tasks_app.media.inputs import InputFile

#: After which a server whose queue was too long is asked again.
QUEUE_SECONDS = 5.0
#: What a receipt says of a job, besides its server.
FACTS = {"template", "workflow_sha256", "seed"}


class ComfyUIProvider(RemoteProvider):
    """ComfyUI servers of one's own; ``model`` names a workflow template.

    Args:
        model: the template of tasks that name none; may be left out where there is only one.
        models: the templates that tasks may name; all of the folder by default.
        servers: by template, the labels of the servers that can run it; all by default.
        common: as `RemoteProvider`; the arguments of `ModelInputs` have no meaning here.
    """

    name = "comfyui"
    names_jobs = True
    is_pool = True
    streams = 8  # a ComfyUI runs one job at a time
    url_setting = "COMFYUI_URLS"
    is_key_needed = False

    def __init__(
        self,
        model: str = "",
        models: list[str] | None = None,
        servers: dict[str, list[str]] | None = None,
        **common: Any,
    ) -> None:
        self._allowed = None if models is None else {model, *models}
        self._labels = servers or {}
        super().__init__(model=model, models=models, **common)

    @property
    def lost_seconds(self) -> float | None:  # type: ignore[override]
        """Return after how much silence of a server its jobs start anew elsewhere."""
        from django.conf import settings

        seconds: float = settings.COMFYUI_LOST_SECONDS
        return seconds

    def headers(self, key: str) -> dict[str, str]:
        """Return nothing: each server has headers of its own."""
        return {}

    def servers(self, model: str) -> list[Server]:
        """Return the servers that can run a template."""
        try:
            found = pool.servers(self.name)
        except ValueError as error:
            raise ProviderError("provider_rejected", str(error)) from None
        labels = self._labels.get(model)
        return found if labels is None else [each for each in found if each.label in labels]

    # -- the way of a job --------------------------------------------------------------------------

    async def submit(self, work: Work, line: ProviderClient) -> Submitted:
        """Upload the task's files, fill in the template and queue it, unless the queue is long."""
        from django.conf import settings

        template = self._template(work.model, work.task_type)
        if await server.queue_length(line) >= settings.COMFYUI_QUEUE_LIMIT:
            raise Busy("The server's queue is long.", retry_after=QUEUE_SECONDS)
        files = {
            name: [await self._uploaded(work, file, line) for file in given]
            for name, given in work.inputs.items()
        }
        values = wanted.values_of(work.task_type, work.task_data)
        seed = int(values.get("seed", seed_of(work.job_id)))
        try:
            graph = graphs.fill(template, values, task_id=work.task_id, seed=seed, files=files)
        except BadValue as error:
            text = f"{error.parameter}: {error}"
            raise ProviderError("provider_rejected", text) from None
        told = {
            "template": template.name,
            "workflow_sha256": template.sha256,
            "seed": seed,
            "output": template.output,
        }
        await server.submit(line, work.job_id, graph, told)
        return Submitted({"id": work.job_id, **told, "nodes": len(graph)})

    async def look(
        self, works: Sequence[Work], line: ProviderClient
    ) -> dict[str, JobStatus | ProviderError]:
        """Ask for all jobs of a server: its queue once, then the history of those that left it."""
        found = await server.looks(line, [work.job_id for work in works])
        states: dict[str, JobStatus | ProviderError] = {}
        for work in works:
            try:
                states[work.job_id] = self._judged(work, found[work.job_id])
            except ProviderError as error:
                states[work.job_id] = error
        return states

    async def look_one(self, work: Work, line: ProviderClient) -> JobStatus:
        """Ask for one job."""
        found = (await self.look([work], line))[work.job_id]
        if isinstance(found, ProviderError):
            raise found
        return found

    async def stop(self, work: Work, line: ProviderClient) -> CancelOutcome:
        """Take the job out of the queue, or interrupt it."""
        return await server.stop(line, work.job_id)

    async def follow(self, work: Work, line: ProviderClient) -> AsyncGenerator[JobStatus]:
        """Yield progress and previews: events go only to the client that submitted, named so."""
        progress = Progress(work.remote.get("nodes", 0))
        async for told in line.listen(f"ws?clientId={work.job_id}"):
            if isinstance(told, bytes):
                yield JobStatus(False, progress.fraction, preview=picture_in(told))
            else:
                is_done = progress.read(told)
                yield JobStatus(is_done, progress.fraction)

    def _judged(self, work: Work, state: State | ProviderError) -> JobStatus:
        """Return what a state means.

        Raises:
            UnknownJob, WorkFailed, ProviderError: as `look_one`.
        """
        if isinstance(state, ProviderError):
            raise state
        if state.stage == JobStage.PENDING:
            return JobStatus(is_done=False, step="queued")
        if state.stage == JobStage.RUNNING:
            return JobStatus(is_done=False)
        if state.stage == JobStage.UNKNOWN:
            raise UnknownJob("The server does not know the job: it was restarted, or cleared.")
        if state.stage == JobStage.FAILED:
            raise WorkFailed("render_failed", "The workflow failed.", words=state.words)
        if state.stage == JobStage.INTERRUPTED:
            raise WorkFailed("render_failed", "The job was interrupted on the server.")
        # The server gives back what was told to it, in case the answer to the submit was lost.
        kept = work.remote if set(work.remote) >= FACTS else state.told
        facts = {name: kept[name] for name in FACTS if name in kept}
        output = kept.get("output") or self._template(work.model, work.task_type).output
        outputs = server.results(state.outputs, output, TASK_TYPES[work.task_type].media)
        return JobStatus(is_done=True, outputs=outputs, facts=facts | {"server": work.server})

    async def _uploaded(self, work: Work, file: InputFile, line: ProviderClient) -> str:
        """Upload one input; return the name under which the server has it."""
        try:
            path = await asyncio.to_thread(file.copied_to, work.directory)
        except OSError:
            text = "An input could not be read from the storage."
            raise ProviderError("storage_failed", text) from None
        return await server.upload(line, path, file.filename, work.task_id)

    # -- templates ---------------------------------------------------------------------------------

    def templates(self) -> dict[str, Template]:
        """Return the templates that tasks may name."""
        from django.conf import settings

        folder = settings.COMFYUI_WORKFLOWS
        found = templates.read_all(Path(folder))[0] if folder else {}
        if self._allowed is None:
            return found
        return {name: found[name] for name in found if name in self._allowed}

    @property
    def model(self) -> str:
        """Return the template of tasks that name none: the configured one, or the only one."""
        found = [self._model] if self._model else list(self.templates())
        return found[0] if len(found) == 1 else ""

    @model.setter
    def model(self, name: str) -> None:
        self._model = name

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names of all templates that tasks may name, the default first."""
        return tuple(name for name in dict.fromkeys([self.model, *self.templates()]) if name)

    @models.setter
    def models(self, names: tuple[str, ...]) -> None:
        """Ignore what the configuration names: the folder says what there is."""

    def _template(self, model: str, task_type: str) -> Template:
        template = self.templates().get(model)
        if template is None or template.task_type != task_type:
            text = f"There is no template {model} for a {task_type}."
            raise ProviderError("provider_rejected", text)
        return template

    # -- what a task may say -----------------------------------------------------------------------

    def accepts(self, task_type: str, model: str = "") -> Accepts:
        """Return what a template has a place for."""
        template = self.templates().get(model or self.model)
        if template is None or template.task_type != task_type:
            return Accepts()
        return wanted.accepts_of(template)

    def sent_seed(self, task_type: str, task_data: Mapping[str, Any], model: str) -> int | None:
        """Return nothing: the seed of a job is in its facts."""
        return None

    def validate(self, task_type: str, task_data: dict[str, Any]) -> list[FieldError]:
        """Report a template that is not there, and everything that it has no place for."""
        who = f"The provider {self.name}"
        found = self.templates()
        names = [name for name, each in found.items() if each.task_type == task_type]
        model = task_data.get("model") or self.model
        if model not in names:
            return model_faults(who, names, {"model": model})
        accepts = self.accepts(task_type, model)
        return [
            *refusals(who, accepts, task_type, task_data),
            *wanted.faults(who, found[model], task_type, task_data),
        ]

    def configuration_problems(self) -> list[str]:
        """Return what is wrong with servers and templates, as far as that can be seen from here."""
        from django.conf import settings

        found = []
        try:
            known = {each.label for each in pool.servers(self.name)}
            if not known:
                found.append("Set COMFYUI_URLS.")
            for model, labels in self._labels.items():
                missing = sorted(set(labels) - known)
                found += [f"servers[{model!r}]: there is no server {name}." for name in missing]
        except ValueError as error:
            found.append(str(error))
        folder = settings.COMFYUI_WORKFLOWS
        if not folder or not Path(folder).is_dir():
            return [*found, "Set COMFYUI_WORKFLOWS to a folder of workflow templates."]
        good, bad = templates.read_all(Path(folder))
        found += [f"{name}: {text}" for name, texts in bad.items() for text in texts]
        named = {self.model, *(self._allowed or ()), *self._labels} - {""}
        found += [f"There is no template {name}." for name in sorted(named - set(good))]
        return found


def seed_of(job_id: str) -> int:
    """Return the seed of a job whose task names none; the same after a crash, another for another.

    An id is random, so its last 32 bits are, and every sampler takes 32 bits.
    """
    return uuid.UUID(job_id).int & 0xFFFFFFFF
