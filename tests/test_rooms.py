"""Is every room where the plan has it: what it may use, what it exports, and who may write?

The plan is data here; docs/architecture.md shows it as a picture.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import ROOT
from tests.test_layout import sources

#: Each line may use what is below it, and nothing on its own line or above. A name is a folder or a
#: module of the app; the modules of a folder are one room.
FLOORS = {
    "webhooks_app": """
        apps urls middleware management
        admin api delivery checks
        operators
        news metrics credentials
        outbox transport
        egress signing
        retry functions
        models
        conf database crash_points log notation shown traces
    """,
    "tasks_app": """
        apps urls middleware management
        actors admin api
        remote_work
        work upkeep checks remote_servers
        assets providers.comfyui
        providers.remote providers.previz
        state access media
        tickets
        broker metrics providers events
        redis_gate instances
        models
        failures
        task_types
    """,
}
#: Exempt from having a face: Django and the web server find these by a module's name.
FACELESS = {"urls", "management"}
#: The renderer is one program: the files of its folders use each other directly.
ONE_ROOM = "tasks_app.providers.previz"
MOST_MODULES = 14
SMALL = 60
#: Small modules with one user, and why they are modules.
SMALL_FOR_A_REASON = {
    "moviesvc/run/collector.py": "Django, Dramatiq and the web server each take a part of it",
    "moviesvc/database_url.py": "reads an address, for the settings; tested by itself",
    "moviesvc/request_log.py": "needs Django, before which the settings load logs.py",
    "moviesvc/run/secret_file.py": "makes a secret once, whoever comes first; tested by itself",
    "moviesvc/urls.py": "found by Django",
    "moviesvc/wsgi.py": "found by web servers",
    "tasks_app/actors.py": "found by Dramatiq",
    "tasks_app/apps.py": "found by Django",
    "tasks_app/state/quota.py": "counts for all threads of a process; tested by itself",
    "tasks_app/urls.py": "found by Django",
    "webhooks_app/apps.py": "found by Django",
    "webhooks_app/middleware.py": "found by Dramatiq",
    "webhooks_app/transport/certificate_names.py": "one rule of RFC 6125, tested by itself",
    "webhooks_app/urls.py": "found by Django",
}


class Import(NamedTuple):
    """One import: by which file, of which module, and which names."""

    path: str
    module: str
    name: str
    is_for_types: bool


@lru_cache(maxsize=1)
def modules() -> dict[str, str]:
    """Return the path of each module of the product by its dotted name."""
    return {path[:-3].replace("/", ".").removesuffix(".__init__"): path for path in sources()}


@lru_cache(maxsize=1)
def imports() -> list[Import]:
    """Return what every file of the product imports of the product, inside functions too."""
    return [found for path, text in sources().items() for found in _imports_of(path, text)]


def _imports_of(path: str, text: str) -> Iterator[Import]:
    tree = ast.parse(text)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            if full in modules():
                yield Import(path, full, "", id(node) in for_types)
            elif node.module in modules():
                yield Import(path, node.module, alias.name, id(node) in for_types)


def room(module: str) -> str:
    """Return the room of a module: a folder of FLOORS, or the module itself."""
    app, _, inside = module.partition(".")
    for depth in (2, 1):
        name = ".".join(inside.split(".")[:depth])
        if name in floors(app):
            return name
    return inside


@lru_cache(maxsize=8)
def floors(app: str) -> dict[str, int]:
    """Return the floor of each room, counted from above."""
    lines = FLOORS.get(app, "").strip().splitlines()
    return {name: floor for floor, line in enumerate(lines) for name in line.split()}


def test_every_room_stands_on_a_floor() -> None:
    """A new folder or module must be added to the plan."""
    seen = {
        f"{app}: {room(module)}"
        for module in modules()
        if (app := module.split(".")[0]) in FLOORS and module != app
    }
    assert seen == {f"{app}: {name}" for app in FLOORS for name in floors(app)}


def test_no_arrow_runs_up() -> None:
    """A room uses only what stands below it."""
    wrong = set()
    for found in imports():
        module = found.path[:-3].replace("/", ".").removesuffix(".__init__")
        app = module.split(".")[0]
        if app not in FLOORS or not found.module.startswith(f"{app}.") or module == app:
            continue
        mine, theirs = room(module), room(found.module)
        if mine != theirs and floors(app)[mine] >= floors(app)[theirs]:
            wrong.add(f"{module} imports {found.module}")
    assert wrong == set()


def test_no_files_import_each_other_in_a_circle() -> None:
    """No circle of imports, not even within one room or inside functions."""
    ways = defaultdict(set)
    for found in imports():
        module = found.path[:-3].replace("/", ".").removesuffix(".__init__")
        if module != found.module and not found.is_for_types:
            ways[module].add(found.module)
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for other in sorted(ways[module]):
                walk(other, (*trail, module))
            done.add(module)

    for module in sorted(modules()):
        walk(module, ())


def face(folder: str) -> set[str]:
    """Return what a folder's ``__init__`` shows: the names in its ``__all__``."""
    tree = ast.parse(sources()[f"{folder.replace('.', '/')}/__init__.py"])
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_a_room_is_entered_by_its_face() -> None:
    """Another folder imports only the names and modules that ``__init__`` lists."""
    wrong = set()
    for found in imports():
        folder, _, last = found.module.rpartition(".")
        is_folder = modules()[found.module].endswith("__init__.py")
        if is_folder and not found.name:
            continue  # the folder itself
        if is_folder:
            folder, last = found.module, found.name
        own = found.path.rpartition("/")[0].replace("/", ".")
        top = found.path.split("/")[1].removesuffix(".py")
        is_within = own.startswith(folder) or (own + folder).count(ONE_ROOM) == 2
        if own == folder or "." not in folder or top in FACELESS or is_within:
            continue
        if last not in face(folder):
            wrong.add(f"{found.path} imports {folder}.{last}")
    assert wrong == set()


def test_nobody_takes_a_function_for_its_module() -> None:
    """Where a face shows a function under its module's name, the import gives the function."""
    shadowed = {
        found.module
        for found in imports()
        if found.path.endswith("__init__.py") and found.module.endswith(f".{found.name}")
    }
    assert shadowed, "no face shows one: the rule can go"
    texts = sources() | {str(path): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    wrong = {
        f"{path} takes {found.module} for a module"
        for path, text in texts.items()
        for found in _imports_of(path, text)
        if found.module in shadowed and not found.name
        if re.search(rf"(?<![\w.]){found.module.rpartition('.')[2]}\.[A-Za-z_]", text)
    }
    assert wrong == set()


def test_a_folder_holds_few_modules() -> None:
    """No folder has more than fourteen modules."""
    counts = Counter(Path(path).parent.as_posix() for path in sources() if "__init__" not in path)
    assert {name: count for name, count in counts.items() if count > MOST_MODULES} == {}


def test_a_small_module_has_two_users_or_a_reason() -> None:
    """A small module with only one user belongs into that user, or has a listed reason."""
    users = defaultdict(set)
    for found in imports():
        users[found.module].add(found.path)
    alone = {
        path
        for module, path in modules().items()
        if 0 < sources()[path].count("\n") < SMALL and len(users[module]) < 2
        if not re.search(r"/(management|admin|formats)/|/__\w+__\.py", path)
    }
    assert alone == set(SMALL_FOR_A_REASON)


MESSAGES = "webhooks_app_webhook(message|delivery)"
#: Which folder alone changes which tables, by SQL or by the ORM.
WRITERS = {
    "webhooks_app/outbox/": (
        rf"\b(INSERT INTO|UPDATE|DELETE FROM) +{MESSAGES}\b"
        r"|\b(WebhookMessage|WebhookDelivery)\.objects\b[^\n]*\.(update|delete|create|bulk_\w+)\("
    ),
    "tasks_app/state/": (
        r"\b(INSERT INTO|UPDATE|DELETE FROM) +"
        r"tasks_app_(task|remotejob|remoteserver|cost|project)\b"
        r"|\b(Task|RemoteJob|RemoteServer|Cost|Project)\.objects\b"
        r"[^\n]*\.(update|delete|create|bulk_\w+)\("
    ),
}


@pytest.mark.parametrize("folder", WRITERS)
def test_one_room_writes(folder: str) -> None:
    """A message's or a task's state is changed in one room only."""
    pattern = re.compile(WRITERS[folder])
    writers = {path for path, text in sources().items() if pattern.search(text)}
    assert {path for path in writers if not path.startswith(folder)} == set()
    assert writers, "the pattern finds nobody: is it still right?"


def test_no_statement_names_the_other_apps_tables() -> None:
    """SQL names only tables of its own app; the other app is called through its face."""
    naming = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE) +\"?(tasks_app|webhooks_app)_[a-z]+\b")
    wrong = {
        path
        for path, text in sources().items()
        if any(not path.startswith(app) for app in naming.findall(text))
    }
    assert wrong == set()


def test_one_class_one_name() -> None:
    """No two public classes of an app share a name, except those that Django asks for."""
    names = defaultdict(list)
    for path, text in sources().items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names[path.split("/")[0], node.name].append(path)
    twice = {f"{app}: {name}": paths for (app, name), paths in names.items() if len(paths) > 1}
    assert {name: paths for name, paths in twice.items() if not name.endswith(": Command")} == {}
