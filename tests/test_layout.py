"""Does the code keep its rules: who may import whom, who may connect, and how long a file is?"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache

import pytest

from tests import ROOT

APPS = ("moviesvc", "tasks_app", "webhooks_app")
#: From each part, the other parts that it may import. An arrow back would be a circle.
ARROWS = {
    "moviesvc": {"tasks_app", "webhooks_app"},
    "tasks_app": {"webhooks_app"},
    "webhooks_app": set(),
}
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 50
#: Modules that may open HTTP connections: the transport to receivers and to everything that
#: clients' URLs name, and programs that only call the service itself.
CLIENT = re.compile(
    r"ClientSession\(|\baiohttp\.request\(|\burlopen\(|\bHTTPS?Connection\(|\burllib3\b"
    r"|\b(import|from) (requests|httpx|pycurl|httplib2)\b"
)
CLIENT_FILES = {
    "webhooks_app/transport/download.py": "the transport's downloads",
    "moviesvc/run/service.py": "asks the own web server whether it is up",
    "moviesvc/management/commands/demo.py": "calls the own service",
}
#: Modules that may make a socket: the policy, and those that look at this machine's own ports.
SOCKET = re.compile(
    r"\bsocket\.(socket|create_connection)\(|\b(open_connection|create_connection|sock_connect)\("
    r"|\bTCPConnector\(|\b(import|from) (smtplib|ftplib|telnetlib|websockets|paramiko)\b"
    r"|\b(import|from) (python_)?socks\b"
)
SOCKET_FILES = {
    "webhooks_app/egress/policy.py": "the policy",
    "webhooks_app/transport/dial.py": "connects the policy's sockets",
    "webhooks_app/transport/proxy.py": "speaks SOCKS over a socket that dial.py connected",
    "webhooks_app/transport/wire.py": "speaks over a socket that dial.py connected",
    "webhooks_app/transport/download.py": "the transport's downloads, with the policy's sockets",
    "moviesvc/run/service.py": "is the port free?",
    "moviesvc/management/commands/demo.py": "which port is free?",
    "moviesvc/run/embedded.py": "is that Redis alive? By its Unix socket",
    "moviesvc/clients/connections.py": "cuts off clients that do not read; it connects to nobody",
    "moviesvc/run/daemons.py": "is that server alive? By its Unix socket",
}
TOP_LEVEL = {
    *("moviesvc", "tasks_app", "webhooks_app", "tests", "docs", "examples", "manage.py"),
    *("pyproject.toml", "README.md", "LICENSE", "Makefile", "requirements.txt"),
    *("requirements-dev.txt", "Dockerfile", "compose.yaml", "CHANGELOG.md"),
}


@lru_cache(maxsize=1)
def sources() -> dict[str, str]:
    """Return the product's Python files by their path; generated migrations are no source."""
    paths = (path for app in APPS for path in (ROOT / app).rglob("*.py"))
    return {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in paths
        if "migrations" not in path.parts
    }


def imports_of(text: str) -> Iterator[str]:
    """Return the modules that a source imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module or ""


def test_imports_follow_the_arrows() -> None:
    """The webhook app imports neither other part, tasks do not import the service, none tests."""
    wrong = [
        f"{path} imports {module}"
        for path, text in sources().items()
        for module in imports_of(text)
        if (app := path.split("/")[0]) != (top := module.split(".")[0])
        and (top == "tests" or (top in APPS and top not in ARROWS[app]))
    ]
    assert wrong == []


def test_only_its_middleware_lets_the_webhook_app_know_dramatiq() -> None:
    """Any Django project can use the app: only one of its modules imports the task queue."""
    users = {
        path
        for path, text in sources().items()
        if path.startswith("webhooks_app/")
        and any(
            module.split(".")[0] in ("dramatiq", "django_dramatiq") for module in imports_of(text)
        )
    }
    assert users == {"webhooks_app/middleware.py"}


def test_nobody_but_the_transport_opens_an_http_client() -> None:
    """A client's URL is only ever dialled through the egress policy: one module opens clients."""
    users = {path for path, text in sources().items() if CLIENT.search(text)}
    assert users == set(CLIENT_FILES)


def test_nobody_else_makes_a_socket() -> None:
    """The same for sockets: only the policy makes them, and modules that look at this machine."""
    users = {path for path, text in sources().items() if SOCKET.search(text)}
    assert users == set(SOCKET_FILES)


def test_every_transport_is_told_its_proxy() -> None:
    """No request bypasses a forward proxy because somebody forgot the setting."""
    made = re.compile(r"\bTransport\([^)]*\)")
    bare = [
        f"{path}: {call}"
        for path, text in sources().items()
        for call in made.findall(text)
        if "proxy=" not in call
    ]
    assert bare == []


@pytest.mark.parametrize(
    "line",
    [
        "async with aiohttp.ClientSession() as session:",
        "import requests",
        "from httpx import AsyncClient",
        "urllib.request.urlopen(url)",
        "http.client.HTTPSConnection(host)",
    ],
)
def test_the_rule_on_clients_bites(line: str) -> None:
    """The pattern above finds every common way to open an HTTP client."""
    assert CLIENT.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "socket.create_connection((host, 80))",
        "reader, writer = await asyncio.open_connection(host, 80)",
        "await loop.create_connection(Protocol, host, 80)",
        "connector = aiohttp.TCPConnector()",
        "import smtplib",
    ],
)
def test_the_rule_on_sockets_bites(line: str) -> None:
    """The pattern above finds every common way around the policy's own socket."""
    assert SOCKET.search(line)


def test_files_answer_one_question() -> None:
    """No file is longer than 450 lines; over 350 is where to ask whether it holds two ideas."""
    lengths = {path: text.count("\n") for path, text in sources().items()}
    too_long = {path: length for path, length in lengths.items() if length > MAX_FILE_LINES}
    assert too_long == {}


def test_functions_are_short_enough_to_read() -> None:
    """No function of the product is longer than 50 lines."""
    too_long = [
        f"{path}: {node.name}"
        for path, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert too_long == []


def test_every_module_says_which_question_it_answers() -> None:
    """Each file that has code begins with a docstring."""
    silent = [
        path
        for path, text in sources().items()
        if text.strip() and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_nothing_strange_lies_at_the_top() -> None:
    """The top folder has a fixed list of files, except dot files, state and caches."""
    seen = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
    assert seen - TOP_LEVEL - {"var"} == set()


def test_who_sends_nothing_loads_no_http_client() -> None:
    """A command or a web process starts without aiohttp, a seventh of the time of its start."""
    look = (
        "import django, sys; django.setup(); import moviesvc.urls; print('aiohttp' in sys.modules)"
    )
    told = os.environ | {"DJANGO_SETTINGS_MODULE": "moviesvc.settings"}
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, env=told, capture_output=True)
    assert done.stdout == b"False\n", done.stderr
