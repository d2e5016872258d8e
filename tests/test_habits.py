"""Are the habits kept: one list of checks, locks that fit, one version, and typed packages?"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import moviesvc
from moviesvc.library_settings import SPECTACULAR_SETTINGS
from tests import ROOT
from tests.support import locks

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = r"^idna==\S+"


def checks(text: str) -> set[str]:
    """Return the checks that a text calls, without their options to change nothing."""
    for word in ("$(BIN)", ".venv/bin"):
        text = text.replace(f"{word}/", "BIN/")
    text = re.sub(r" (--check|--fix|--force-exclude)(?= |$)", "", text, flags=re.MULTILINE)
    text = re.sub(r" (\.|\$\$\(git .*\))$", "", text, flags=re.MULTILINE)
    return set(re.findall(r"BIN/(.+)$", text, flags=re.MULTILINE))


def test_a_commit_passes_what_lint_asks() -> None:
    """The hooks of pre-commit and `make lint` call the same checks."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert len(hooks) == len(checks(recipe[1]))
    assert checks("\n".join(hook["entry"] for hook in hooks)) == checks(recipe[1])
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


def test_the_locks_fit() -> None:
    """What pyproject.toml asks for is locked, with hashes, and nothing else is."""
    assert list(locks.faults(ROOT)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("pyproject.toml", '"orjson",', '"orjson", "flask",', "requirements.txt lacks flask"),
        ("pyproject.toml", '    "orjson",\n', "", "orjson, which nobody asks for any more"),
        ("pyproject.toml", "django>=5.2,<5.3", "django>=6.0", "asked for is >=6.0"),
        ("requirements.txt", PIN, "idna==0.1", "requirements-dev.txt lacks idna 0.1"),
        ("requirements.txt", "--hash=sha256:", "--hash=none:", "without a hash"),
        ("requirements.txt", PIN, r"--index-url https://example.com\n\g<0>", "an address"),
    ],
)
def test_the_check_of_the_locks_bites(
    tmp_path: Path, file: str, old: str, new: str, fault: str
) -> None:
    """A lock that no longer fits is reported, whatever the difference."""
    for name in ("pyproject.toml", *locks.LOCKS):
        (tmp_path / name).write_text((ROOT / name).read_text())
    text, count = re.subn(old, new, (tmp_path / file).read_text(), flags=re.MULTILINE)
    assert count
    (tmp_path / file).write_text(text)
    assert any(fault in found for found in locks.faults(tmp_path))


def test_there_is_one_version() -> None:
    """The package, its description, the API page and the changelog have the same version."""
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "moviesvc.__version__"}
    assert SPECTACULAR_SETTINGS["VERSION"] == moviesvc.__version__
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "[Unreleased]"]
    assert re.fullmatch(rf"\[{re.escape(moviesvc.__version__)}\] - 20\d\d-\d\d-\d\d", released[0])


def test_types_are_found() -> None:
    """Each package is marked as typed, so that mypy reads it from another project."""
    packages = ("moviesvc", "tasks_app", "webhooks_app")
    assert [name for name in packages if not (ROOT / name / "py.typed").exists()] == []
