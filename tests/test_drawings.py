"""Do the pictures and tables of the architecture show the house as it stands?"""

from __future__ import annotations

import importlib

import pytest

from tests import ROOT
from tests.support import drawings
from tests.test_rooms import FLOORS, floors, room

PAGE = (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("name", drawings.PICTURES)
def test_the_picture_is_of_today(name: str) -> None:
    """The picture in the docs is what the plan draws, and the page shows it."""
    drawn = (drawings.FOLDER / name).read_text()
    again = "draw it anew: .venv/bin/python -m tests.support.drawings"
    assert drawn == drawings.PICTURES[name](), again
    assert f"(images/{name})" in PAGE


@pytest.mark.parametrize("module", [module for _, module, _ in drawings.WAY])
def test_the_way_leads_through_what_there_is(module: str) -> None:
    """Each step of the way is a module, or what a room shows."""
    app, _, inside = module.partition(".")
    assert room(module) in floors(app)
    folder, _, last = module.rpartition(".")
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        assert callable(getattr(importlib.import_module(folder), last)), inside


@pytest.mark.parametrize("app", FLOORS)
def test_every_folder_is_in_the_table(app: str) -> None:
    """The page says of each folder which question it answers."""
    table = PAGE.partition(f"| room of `{app}`")[2].partition("\n\n")[0]
    folders = {path.name for path in (ROOT / app).iterdir() if (path / "__init__.py").exists()}
    told = {name for name in folders if f"`{name}`" in table}
    assert folders - told == {"management", "migrations"}
