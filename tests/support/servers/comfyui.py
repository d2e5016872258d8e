"""How do tests start a ComfyUI? The stand-in, in a thread, or as a process that can be killed."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.servers.comfyui_protocol import StandIn
from tests.support.waiting import wait_until


class ComfyUI:
    """A stand-in with a port, in a thread of this process; a context manager."""

    def __init__(self, folder: Path | None = None, **how: Any) -> None:
        self._own = tempfile.TemporaryDirectory() if folder is None else None
        self.state = StandIn(folder or Path(str(self._own and self._own.name)), **how)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ComfyUI:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        if self._own is not None:
            self._own.cleanup()

    def start(self) -> None:
        """Listen, on the port that it had before."""
        self._do(self._start())

    def kill(self) -> None:
        """Be gone at once, with everything in memory; files stay."""
        self._do(self._kill())

    def hold(self) -> None:
        """Let whatever runs stay running, until `let_go`."""
        self._loop.call_soon_threadsafe(self.state.held.set)

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self.state.held.clear)

    def calls(self, call: str) -> list[Any]:
        """Return the bodies of all requests with this "METHOD /path"."""
        return [
            body
            for method, path, body in self.state.seen
            if f"{method} {path.split('?')[0]}" == call
        ]

    def sees(self, call: str, times: int = 1) -> bool:
        """Wait until so many requests with this "METHOD /path" have come."""
        return wait_until(lambda: len(self.calls(call)) >= times, 20)

    def runs(self, prompt_id: str = "") -> bool:
        """Wait until this prompt, or any, runs."""
        return wait_until(
            lambda: self.state.running is not None and prompt_id in self.state.running[1], 20
        )

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        self._runner = web.AppRunner(
            self.state.application(), shutdown_timeout=0.1, access_log=None
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._work = asyncio.create_task(self.state.execute())

    async def _kill(self) -> None:
        if self._runner is None:
            return
        self._work.cancel()
        for socket in list(self.state.sockets.values()):
            await socket.close()
        await self._runner.cleanup()
        self._runner = None
        self.state.forget()


def main() -> None:
    """Run one stand-in as a process of its own, so that it can be killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--version", default="0.3.64")
    parser.add_argument("--seconds", type=float, default=0.0)
    asked = parser.parse_args()

    async def run() -> None:
        state = StandIn(asked.folder, asked.version, asked.seconds)
        runner = web.AppRunner(state.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", asked.port).start()
        await state.execute()

    asyncio.run(run())


if __name__ == "__main__":
    main()
