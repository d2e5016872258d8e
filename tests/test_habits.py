"""Are the habits kept: one list of checks, locks that fit, typed packages, no hasty tests?"""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

import moviesvc
from moviesvc.library_settings import SPECTACULAR_SETTINGS
from tests import ROOT
from tests.support import family, locks
from tests.support.waiting import wait_until

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = r"^idna==\S+"
#: What reads a page as it is now, maybe the one before the click; `expect` waits for what is meant.
READS_AT_ONCE = {
    "all_inner_texts", "all_text_contents", "content", "count", "get_attribute", "inner_html",
    "inner_text", "input_value", "is_checked", "is_disabled", "is_enabled", "is_hidden",
    "is_visible", "query_selector", "query_selector_all", "text_content",
}  # fmt: skip
#: What psutil reads from or does to a process, and raises if it is gone.
ASKS_A_PROCESS = {
    "cmdline", "cpu_times", "cwd", "environ", "kill", "memory_info", "name", "net_connections",
    "num_fds", "num_threads", "ppid", "send_signal", "status",
}  # fmt: skip
TESTS = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "tests").rglob("*.py")}


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


def hasty_reads(text: str) -> list[str]:
    """Find what reads a browser's page without waiting; what the database counts is not meant."""
    if not re.search(r"playwright|support\.browser", text):
        return []
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)]
    reads = [node for node in nodes if node.attr in READS_AT_ONCE]
    return [found for node in reads if ".objects." not in (found := ast.unparse(node))]


def hasty_questions(text: str) -> list[str]:
    """Find loops that ask each process of a list themselves."""
    if not re.search(r"import psutil|support\.family", text):
        return []
    loops = [
        (loop, part.target)
        for loop in ast.walk(ast.parse(text))
        for part in getattr(loop, "generators", [loop] if isinstance(loop, ast.For) else [])
    ]
    return [
        ast.unparse(node)
        for loop, target in loops
        for node in ast.walk(loop)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ASKS_A_PROCESS
        if ast.unparse(node.func.value) == ast.unparse(target)
    ]


def test_a_page_is_not_read_before_it_is_there() -> None:
    """What a test asks of a browser's page waits for the answer, with playwright's `expect`."""
    texts = {name: text for name, text in TESTS.items() if not name.startswith("tests/support/")}
    assert {name: found for name, text in texts.items() if (found := hasty_reads(text))} == {}


def test_a_process_that_is_gone_fails_no_test() -> None:
    """Who asks each process of a list does so through `tests.support.family`."""
    assert {name: found for name, text in TESTS.items() if (found := hasty_questions(text))} == {}


def test_processes_that_end_while_they_are_asked_are_left_out() -> None:
    """Of a list, an ended process and one that nobody has waited for yet give no answer."""
    running, ended, zombie = (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        for code in ("input()", "", "")
    )
    listed = [psutil.Process(running.pid), psutil.Process(zombie.pid)]
    with suppress(psutil.NoSuchProcess):
        listed.append(psutil.Process(ended.pid))
    ended.communicate()
    wait_until(lambda: not family.is_running(zombie.pid))
    assert family.answers(listed, lambda process: process.cmdline()[0]) == [sys.executable]
    assert family.matching(listed, lambda process: process.num_fds() > 0) == listed[:1]
    assert family.family(ended.pid) == []
    assert [family.is_running(process) for process in listed[:2]] == [True, False]
    family.kill(listed)
    assert running.wait(10) == -signal.SIGKILL
    for process in (running, zombie):
        process.communicate()
