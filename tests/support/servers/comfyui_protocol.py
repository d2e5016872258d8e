"""How does a ComfyUI answer? A stand-in, written from a recording of a real 0.3.64.

Newer versions were read, not run. No package gives a ComfyUI, so this is what the suite has;
`make comfyui` runs the same workflows through real servers. Queue, history, cache, file names,
error bodies, uploads, ranges, events and their client are as recorded. What a test may turn is said
at `StandIn`; `comfyui.py` gives it a port.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tests.support.servers import comfyui_nodes as nodes

MOST_HISTORY = 10_000


class Interrupted(Exception):
    """The running prompt is to end."""


class StandIn:
    """The state of one server, and its answers.

    Args:
        version: what /system_stats says; the UUID rule is of 0.25, cancelling by id of 0.26.
        seconds: how long each node takes at least.
        credentials: ``user:password`` that a proxy in front asks for.
    """

    def __init__(
        self, folder: Path, version: str = "0.3.64", seconds: float = 0.0, credentials: str = ""
    ) -> None:
        self.place, self.version, self.seconds = nodes.Place(folder), version, seconds
        for name in ("input", "output", "temp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.credentials = credentials
        self.seen: list[tuple[str, str, Any]] = []  # method, path with query, JSON body
        #: While set, no node starts: whatever runs stays running.
        self.held = asyncio.Event()
        #: Called after each answer, with "METHOD /path": to let things happen in between.
        self.after: Callable[[str], None] = lambda call: None
        #: Answers by "METHOD /path" that come instead: (status, body).
        self.instead: dict[str, tuple[int, bytes]] = {}
        #: Accept the prompt, then close the connection without an answer.
        self.is_silent_after_submit = False
        #: Leave requests that begin so, "METHOD /path", without an answer.
        self.dies_at = ""
        #: A binary message that is sent while a node runs, as a server with previews does.
        self.preview, self.previews_sent = b"", 0
        self.executed: list[str] = []  # classes of the nodes that really ran
        self.forget()

    def forget(self) -> None:
        """Lose everything that is in memory, as a kill and a restart do; files stay."""
        self.running: list | None = None
        self.pending: list[list] = []
        self.history: OrderedDict[str, dict] = OrderedDict()
        self.cache: dict[str, Any] = {}
        self.number = 0
        self.interrupting = ""
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.work = asyncio.Event()

    # -- what runs ---------------------------------------------------------------------------------

    async def execute(self) -> None:
        """Run one prompt after the other, for ever."""
        while True:
            await self.work.wait()
            self.work.clear()
            while self.pending:
                self.pending.sort(key=lambda item: item[0])
                item = self.running = self.pending.pop(0)
                entry = await self._run(item)
                # The move from queue to history is one step, as under ComfyUI's lock.
                self.running = None
                self.history[item[1]] = entry
                while len(self.history) > MOST_HISTORY:
                    self.history.popitem(last=False)
                await self._tell(item, "executing", node=None)

    async def _run(self, item: list) -> dict:
        _, prompt_id, graph, extra, wanted = item
        outputs: dict = {}
        done: dict[str, Any] = {}
        messages = [["execution_start", {"prompt_id": prompt_id}]]
        await self._tell(item, "execution_start")
        order = _order(graph, wanted)
        keys = {node: _key(graph, node) for node in order}
        cached = [node for node in order if keys[node] in self.cache]
        messages.append(["execution_cached", {"nodes": cached, "prompt_id": prompt_id}])
        await self._tell(item, "execution_cached", nodes=cached)
        status = {"status_str": "success", "completed": True, "messages": messages}
        current = ""
        try:
            for current in order:
                done[current] = await self._node(item, current, done, keys, set(cached))
                if nodes.KINDS[graph[current]["class_type"]].is_output:
                    outputs[current] = done[current]
            messages.append(["execution_success", {"prompt_id": prompt_id}])
            await self._tell(item, "execution_success")
        except Interrupted:
            status |= {"status_str": "error", "completed": False}
            messages.append(["execution_interrupted", {"node_id": current, "executed": []}])
        except Exception as error:
            status |= {"status_str": "error", "completed": False}
            messages.append(["execution_error", _told(error, current, graph)])
        return {
            "prompt": [item[0], prompt_id, graph, extra, wanted],
            "outputs": outputs,
            "status": status,
            "meta": {},
        }

    async def _node(self, item: list, node: str, done: dict, keys: dict, cached: set) -> Any:
        graph = item[2]
        if node not in cached:
            for step in (0.0, 0.5):
                await self._progress(item, list(done), node, step)
                await self._wait(item)
            spec = graph[node]
            kind = nodes.KINDS[spec["class_type"]]
            inputs = {
                name: done[value[0]] if isinstance(value, list) else value
                for name, value in spec["inputs"].items()
                if name in kind.required | kind.optional
            }
            self.executed.append(spec["class_type"])
            self.cache[keys[node]] = await asyncio.to_thread(kind.run, self.place, **inputs)
        return self.cache[keys[node]]

    async def _wait(self, item: list) -> None:
        prompt_id = item[1]
        until = time.monotonic() + self.seconds / 2
        while self.held.is_set() or time.monotonic() < until:
            if self.interrupting == prompt_id:
                break
            await self._show(item)
            await asyncio.sleep(0.01)
        if self.interrupting in (prompt_id, "*"):
            self.interrupting = ""
            raise Interrupted

    # -- events ------------------------------------------------------------------------------------

    async def _tell(self, item: list, kind: str, **data: Any) -> None:
        socket = self.sockets.get(item[3].get("client_id", ""))
        if socket is None or socket.closed:
            return  # lost: nothing is sent again
        with contextlib.suppress(ConnectionError):
            await socket.send_json({"type": kind, "data": {**data, "prompt_id": item[1]}})

    async def _progress(self, item: list, done: list[str], node: str, value: float) -> None:
        states = {
            each: {"value": 1.0, "max": 1.0, "state": "finished", "node_id": each} for each in done
        }
        states[node] = {"value": value * 10, "max": 10.0, "state": "running", "node_id": node}
        await self._tell(item, "progress_state", nodes=states)
        await self._tell(item, "executing", node=node)

    async def _show(self, item: list) -> None:
        socket = self.sockets.get(item[3].get("client_id", ""))
        if self.preview and socket is not None and not socket.closed:
            with contextlib.suppress(ConnectionError):
                await socket.send_bytes(self.preview)
                self.previews_sent += 1

    async def ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.query.get("clientId") or uuid.uuid4().hex
        self.sockets[sid] = socket
        status = {"status": {"exec_info": {"queue_remaining": self.remaining}}, "sid": sid}
        await socket.send_json({"type": "status", "data": status})
        await socket.send_bytes(b"\x00\x00\x00\x01\x00\x00\x00\x01preview")
        async for message in socket:
            if message.type == WSMsgType.ERROR:
                break
        return socket

    # -- prompts -----------------------------------------------------------------------------------

    @property
    def remaining(self) -> int:
        return len(self.pending) + (self.running is not None)

    def is_at_least(self, *version: int) -> bool:
        return tuple(int(part) for part in self.version.split(".")) >= version

    async def submit(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.text())
        except ValueError:
            return web.Response(status=500, text="500 Internal Server Error")
        graph, prompt_id = body.get("prompt"), body.get("prompt_id", str(uuid.uuid4()))
        if not self.is_at_least(0, 3, 40):  # versions of 2024 knew no such member
            prompt_id = str(uuid.uuid4())
        if self.is_at_least(0, 25) and not _is_canonical(prompt_id):
            return _refusal("invalid_prompt_id", "prompt_id must be a canonical UUID")
        if not graph:
            return _refusal("no_prompt", "No prompt provided")
        refusal, wanted, faults = _validated(graph)
        if refusal is not None:
            return refusal
        extra = {**body.get("extra_data", {}), "client_id": body.get("client_id", "")}
        self.pending.append([self.number, prompt_id, graph, extra, wanted])
        answer = {"prompt_id": prompt_id, "number": self.number, "node_errors": faults}
        self.number += 1
        self.work.set()
        if self.is_silent_after_submit:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(answer)

    async def queue(self, request: web.Request) -> web.Response:
        running = [copy.copy(self.running)] if self.running else []
        return web.json_response({"queue_running": running, "queue_pending": self.pending})

    async def edit_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        for prompt_id in body.get("delete", []):
            self.pending = [item for item in self.pending if item[1] != prompt_id]
        return web.Response()

    async def read_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        entry = self.history.get(prompt_id)
        return web.json_response({prompt_id: entry} if entry else {})

    async def interrupt(self, request: web.Request) -> web.Response:
        text = await request.text()
        wanted = json.loads(text).get("prompt_id") if text else None
        if self.running and wanted in (None, self.running[1]):
            self.interrupting = self.running[1]
        return web.Response()

    async def cancel(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        if not self.is_at_least(0, 26):
            return web.Response(status=405 if self.is_at_least(0, 6) else 404)
        rest = [item for item in self.pending if item[1] != prompt_id]
        is_hit = len(rest) < len(self.pending)
        self.pending = rest
        if self.running and self.running[1] == prompt_id:
            self.interrupting, is_hit = prompt_id, True
        return web.json_response({"cancelled": is_hit})

    async def remaining_prompts(self, request: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": self.remaining}})

    # -- files and facts ---------------------------------------------------------------------------

    async def view(self, request: web.Request) -> web.StreamResponse:
        name, kind = request.query.get("filename", ""), request.query.get("type", "output")
        if ".." in name or name.startswith("/"):
            return web.Response(status=400)
        path = self.place.folder / kind / request.query.get("subfolder", "") / Path(name).name
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    async def upload(self, request: web.Request) -> web.Response:
        fields = await request.post()
        image = fields["image"]
        assert isinstance(image, web.FileField)
        content, subfolder = image.file.read(), str(fields.get("subfolder", ""))
        folder = self.place.folder / str(fields.get("type", "input")) / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        name, count = image.filename, 1
        while (folder / name).exists() and (folder / name).read_bytes() != content:
            stem, _, extension = image.filename.rpartition(".")
            name, count = f"{stem} ({count}).{extension}", count + 1
        (folder / name).write_bytes(content)
        return web.json_response({"name": name, "subfolder": subfolder, "type": "input"})

    async def system_stats(self, request: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": self.version}, "devices": []})

    async def object_info(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        names = [name] if name else list(nodes.KINDS)
        found = {each: nodes.object_info(each) for each in names if each in nodes.KINDS}
        return web.json_response(found)

    # -- the application ---------------------------------------------------------------------------

    @web.middleware
    async def _judge(self, request: web.Request, handler: Any) -> web.StreamResponse:
        call = f"{request.method} {request.path}"
        is_json = request.content_type == "application/json" and request.can_read_body
        try:
            body = await request.json() if is_json else None
        except ValueError:
            body = None
        self.seen.append((request.method, request.path_qs, body))
        if self.dies_at and call.startswith(self.dies_at):
            assert request.transport is not None
            request.transport.abort()
        asked = request.headers.get("authorization", "")
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        answer: web.StreamResponse
        if self.credentials and asked != wanted:
            answer = web.Response(status=401)
        elif call in self.instead:
            status, content = self.instead[call]
            answer = web.Response(status=status, body=content)
        else:
            answer = await handler(request)
        self.after(call)
        return answer

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._judge], client_max_size=100 << 20)
        app.add_routes(
            [
                web.post("/prompt", self.submit),
                web.get("/prompt", self.remaining_prompts),
                web.get("/queue", self.queue),
                web.post("/queue", self.edit_queue),
                web.get("/history/{id}", self.read_history),
                web.post("/interrupt", self.interrupt),
                web.post("/api/jobs/{id}/cancel", self.cancel),
                web.get("/view", self.view),
                web.post("/upload/image", self.upload),
                web.get("/system_stats", self.system_stats),
                web.get("/object_info", self.object_info),
                web.get("/object_info/{name}", self.object_info),
                web.get("/ws", self.ws),
            ]
        )
        return app


def _order(graph: dict, wanted: list[str]) -> list[str]:
    """Return the nodes that the wanted ones need, each after what it takes."""
    found: list[str] = []

    def visit(node: str) -> None:
        for value in graph[node]["inputs"].values():
            if isinstance(value, list):
                visit(value[0])
        if node not in found:
            found.append(node)

    for node in wanted:
        visit(node)
    return found


def _key(graph: dict, node: str) -> str:
    """Return the signature of a node and all that it takes: what the cache goes by."""
    spec = graph[node]
    inputs = {
        name: _key(graph, value[0]) if isinstance(value, list) else value
        for name, value in spec["inputs"].items()
    }
    return json.dumps([spec["class_type"], inputs], sort_keys=True)


def _validated(graph: dict) -> tuple[web.Response | None, list[str], dict]:
    for node, spec in graph.items():
        if not isinstance(spec, dict) or "class_type" not in spec:
            return _refusal("invalid_prompt", "No class_type", f"Node ID '#{node}'"), [], {}
        if spec["class_type"] not in nodes.KINDS:
            text = f"Cannot execute because node {spec['class_type']} does not exist."
            return _refusal("invalid_prompt", text, f"Node ID '#{node}'"), [], {}
    ends = [node for node, spec in graph.items() if nodes.KINDS[spec["class_type"]].is_output]
    if not ends:
        return _refusal("prompt_no_outputs", "Prompt has no outputs"), [], {}
    faults, good = {}, []
    for end in ends:
        bad = {node: found for node in _order(graph, [end]) if (found := nodes.faults(graph[node]))}
        if not bad:
            good.append(end)
        for node, found in bad.items():
            kind = graph[node]["class_type"]
            row = {"errors": found, "dependent_outputs": [end], "class_type": kind}
            faults[node] = row
    if not good:
        text = "Prompt outputs failed validation"
        return _refusal("prompt_outputs_failed_validation", text, node_errors=faults), [], {}
    return None, good, faults


def _refusal(kind: str, message: str, details: str = "", node_errors: Any = None) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": node_errors or {}}, status=400)


def _told(error: Exception, node: str, graph: dict) -> dict:
    return {
        "node_id": node,
        "node_type": graph[node]["class_type"],
        "exception_message": f"{error} in /home/studio/ComfyUI/nodes.py",
        "exception_type": type(error).__name__,
        "traceback": ['  File "/home/studio/ComfyUI/execution.py", line 496, in execute\n'],
        "current_inputs": {"prompt": ["a secret prompt"]},
        "executed": [],
    }


def _is_canonical(text: Any) -> bool:
    return isinstance(text, str) and bool(
        re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    )
