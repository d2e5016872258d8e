"""A stand-in for every provider, with a successful run as its script."""

import pytest

from tests.support.fake_provider import FakeProvider
from tests.support.remote_work import KEY, good_run


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
