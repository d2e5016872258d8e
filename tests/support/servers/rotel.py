"""Which spans did a collector get? rotel, which writes each one it receives to its log."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.ports import free_port
from tests.support.servers.programs import OTLP
from tests.support.waiting import wait_until

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FIELD = re.compile(r"^ *(Trace ID|Parent ID|ID|Name|Kind|Status code) *: (.*)$", re.MULTILINE)
_ATTRIBUTE = re.compile(r"-> ([^:]+): \w+\((.*)\)$", re.MULTILINE)


class Received(NamedTuple):
    """A span as the collector understood it."""

    trace_id: str
    parent_id: str
    id: str
    name: str
    kind: str
    status: str
    attributes: dict[str, str]


class Rotel:
    """The collector; a context manager."""

    def __init__(self, folder: Path) -> None:
        found = list(OTLP.folder.parent.glob("lib/*/site-packages/rotel/rotel-agent"))
        if not found:
            pytest.skip(f"no rotel here; install it with: {OTLP.how}")
        self._program = found[0]
        self._log = folder / "rotel.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Rotel:
        command = ["setpriv", "--pdeathsig", "KILL", str(self._program), "start"]
        command += ["--otlp-http-endpoint", f"127.0.0.1:{self.port}"]
        command += ["--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}", "--exporter", "blackhole"]
        command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        command += ["--pid-file", str(self._log.with_suffix(".pid"))]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: "Starting Rotel" in self.log(), 20, self.log)
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(10)

    def log(self) -> str:
        """Return all that it wrote."""
        return _COLOUR.sub("", self._log.read_text(errors="replace"))

    def spans(self, trace_id: str) -> list[Received]:
        """Return the spans of a trace, in the order in which they came."""
        found = []
        for part in re.split(r"^Span #\d+$", self.log(), flags=re.MULTILINE)[1:]:
            part = part.partition("ResourceSpans")[0]
            fields = dict(_FIELD.findall(part))
            if fields.get("Trace ID") == trace_id and "Status code" in fields:
                names = ("Trace ID", "Parent ID", "ID", "Name", "Kind", "Status code")
                attributes = dict(_ATTRIBUTE.findall(part))
                found.append(Received(*(fields[name].strip() for name in names), attributes))
        return found
