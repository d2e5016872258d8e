"""Stand-ins: one for every hosted provider, with a successful run as its script, and a pool."""

import json
from contextlib import ExitStack

import pytest

from tests.support.comfyui import EXAMPLES, write
from tests.support.fake_provider import FakeProvider
from tests.support.remote_work import KEY, good_run
from tests.support.servers.comfyui import ComfyUI


@pytest.fixture
def fake(settings):
    with FakeProvider() as server:
        for name in ("REPLICATE", "OPENAI", "FAL", "COG"):
            setattr(settings, f"{name}_BASE_URL", server.url)
        settings.FAL_STORAGE_URL = f"{server.url}/storage-of-fal"
        settings.REPLICATE_API_TOKEN = settings.OPENAI_API_KEY = settings.FAL_API_KEY = KEY
        settings.PROVIDER_ALLOW_NETWORKS = ["127.0.0.0/8"]
        settings.TASK_RETRY_WAITS = [0.0, 0.0]
        server.script = good_run(server.url)
        yield server


@pytest.fixture
def pool(settings, tmp_path):
    """Two servers, gpu-a and gpu-b, and the weightless templates."""
    names = ("still", "film", "restyle")
    documents = {name: json.loads((EXAMPLES / f"{name}.json").read_text()) for name in names}
    settings.COMFYUI_WORKFLOWS = str(write(tmp_path / "workflows", **documents))
    settings.PROVIDER_ALLOW_NETWORKS = ["comfyui=127.0.0.0/8"]
    settings.TASK_RETRY_WAITS = [0.0, 0.0]
    entry = {"provider": "comfyui", "options": {"poll_seconds": 0.1}}
    settings.GENERATION_PROVIDERS = {"image_generation": entry, "video_generation": entry}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(ComfyUI()) for name in ("gpu-a", "gpu-b")}
        settings.COMFYUI_URLS = [f"{name}={each.url}" for name, each in servers.items()]
        yield servers
