"""Which workflows do tests give a ComfyUI? Those that need no weights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

from tasks_app.providers.remote.client import ProviderClient, Server
from tests import ROOT
from tests.support.servers.comfyui import ComfyUI
from webhooks_app.egress import read_proxy

T = TypeVar("T")
EXAMPLES = ROOT / "examples/comfyui"
LOOPBACK = (ip_network("127.0.0.0/8"),)


def still(prefix: str = "still", seed: int = 1, **size: int) -> dict[str, Any]:
    """Return the graph of a noisy picture."""
    plain = {"width": 64, "height": 36, "batch_size": 1, "color": 0x285A8C, **size}
    return {
        "1": {"class_type": "EmptyImage", "inputs": plain},
        "2": {
            "class_type": "ImageAddNoise",
            "inputs": {"image": ["1", 0], "seed": seed, "strength": 0.5},
        },
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["2", 0], "filename_prefix": prefix},
        },
    }


def film(prefix: str = "film", *, has_sound: bool = True) -> dict[str, Any]:
    """Return the graph of a film of 24 frames."""
    video = {"images": ["2", 0], "fps": 24.0, **({"audio": ["4", 0]} if has_sound else {})}
    saved = {"video": ["5", 0], "filename_prefix": prefix, "format": "auto", "codec": "auto"}
    sound = {"duration": 1.0, "sample_rate": 44100, "channels": 2}
    return {
        **{node: spec for node, spec in still(batch_size=24).items() if node != "3"},
        "4": {"class_type": "EmptyAudio", "inputs": sound},
        "5": {"class_type": "CreateVideo", "inputs": video},
        "6": {"class_type": "SaveVideo", "inputs": saved},
    }


def template(graph: dict[str, Any], output: str, **members: Any) -> dict[str, Any]:
    """Return a template file's document."""
    return {"task_type": "image_generation", "workflow": graph, "output": output, **members}


def painter() -> dict[str, Any]:
    """Return the template of a picture that has a place for a prompt, and for nothing else."""
    graph = still()
    graph["1"]["inputs"]["note"] = ""  # as ComfyUI does, the stand-in lets it be
    return template(graph, "3", parameters={"prompt": ["1", "note"], "seed": ["2", "seed"]})


def write(folder: Path, **documents: Any) -> Path:
    """Write template files; return their folder."""
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def line_to(stand_in: ComfyUI, proxy: str = "", **headers: str) -> ProviderClient:
    """Return a line to a stand-in; to be used in one event loop."""
    through = read_proxy(proxy)
    return ProviderClient(Server("comfyui-1", stand_in.url, headers, LOOPBACK, proxy=through))


def ask(
    stand_in: ComfyUI,
    work: Callable[[ProviderClient], Awaitable[T]],
    *,
    proxy: str = "",
    **headers: str,
) -> T:
    """Run some work over a line of its own, through a forward proxy where one is named."""

    async def run() -> T:
        async with line_to(stand_in, proxy, **headers) as line:
            return await work(line)

    return asyncio.run(run())
