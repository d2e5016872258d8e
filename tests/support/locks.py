"""Do the lock files contain what pyproject.toml asks for? Run `python -m tests.support.locks`.

It uses no network, so it cannot know whether a newer version exists: `make lock` rewrites them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

#: The extras of each lock, as `make lock` names them; None for all.
LOCKS: dict[str, set[str] | None] = {
    "requirements.txt": {"s3", "otel"},
    "requirements-dev.txt": None,
}
#: A lock that names a download address would depend on one machine's registry.
ADDRESS = re.compile(r"://|^--?\w", re.MULTILINE)


class Pin(NamedTuple):
    """One line of a lock: a version, whether it has hashes, and whether we asked for it."""

    name: str
    version: str
    is_hashed: bool
    is_asked_for: bool


def pins(text: str, project: str) -> list[Pin]:
    """Return what a lock holds; one name may stand there more than once, with markers."""
    found = []
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        line = Requirement(block.splitlines()[0].removesuffix("\\").strip())
        (specifier,) = line.specifier
        reason = block.partition("# via")[2]
        found.append(
            Pin(
                canonicalize_name(line.name),
                specifier.version,
                "--hash=sha256:" in block,
                f"{project} (pyproject.toml)" in reason,
            )
        )
    return found


def asked_for(pyproject: Path, extras: set[str] | None) -> list[Requirement]:
    """Return what the project asks for with these extras."""
    project = tomllib.loads(pyproject.read_text())["project"]
    lines = list(project["dependencies"])
    for extra, more in project["optional-dependencies"].items():
        if extras is None or extra in extras:
            lines += more
    return [Requirement(line) for line in lines]


def faults(folder: Path) -> Iterator[str]:
    """Return what is wrong with the locks in a folder, a sentence each."""
    pyproject = folder / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text())["project"]["name"]
    locked: dict[str, set[tuple[str, str]]] = {}
    for name, extras in LOCKS.items():
        text = (folder / name).read_text()
        if ADDRESS.search(text):
            yield f"{name} names an address or an option"
        held = pins(text, project)
        yield from (f"{name} has {pin.name} without a hash" for pin in held if not pin.is_hashed)
        yield from (f"{name} {fault}" for fault in _misfits(held, asked_for(pyproject, extras)))
        locked[name] = {(pin.name, pin.version) for pin in held}
    for pair in sorted(locked["requirements.txt"] - locked["requirements-dev.txt"]):
        yield f"requirements-dev.txt lacks {' '.join(pair)}, which production has"


def _misfits(held: list[Pin], wanted: list[Requirement]) -> Iterator[str]:
    names = {canonicalize_name(each.name) for each in wanted}
    for each in wanted:
        mine = [pin for pin in held if pin.name == canonicalize_name(each.name)]
        if not mine:
            yield f"lacks {each.name}"
        for pin in mine:
            if not each.specifier.contains(pin.version, prereleases=True):
                yield f"has {pin.name} {pin.version}, asked for is {each.specifier}"
    for pin in held:
        if pin.is_asked_for and pin.name not in names:
            yield f"has {pin.name}, which nobody asks for any more"


if __name__ == "__main__":
    found = list(faults(ROOT))
    sys.exit("\n".join([*found, "`make lock` writes the locks anew."]) if found else 0)
