"""A stand-in for a ComfyUI, as of the version that was recorded."""

import pytest

from tests.support.servers.comfyui import ComfyUI


@pytest.fixture
def comfy():
    with ComfyUI() as server:
        yield server
