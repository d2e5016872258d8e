"""Do the pages tell the truth? Their code is run, and their pictures are drawn again."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.support import accepts_table, drawings
from tests.test_rooms import FLOORS, floors, room
from webhooks_app.signing import scheme

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODIES = ["{}", '{"a": "\\u00fc \\ud83c\\udfac \\u2028"}', '{"größe": "🎬"}', "x" * 20_000]


def snippet(page: str, language: str) -> str:
    """Return the one block of a page that defines `verify` in this language."""
    text = (ROOT / page).read_text()
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    (block,) = [block for block in blocks if "verify" in block]
    return str(block)


def signed(body: str, *, age_seconds: int = 0, secret: str = SECRET) -> dict[str, object]:
    """Return one request as the service signs it."""
    timestamp = int(time.time()) - age_seconds
    signature = scheme.sign(secret, "msg_1", timestamp, body.encode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(timestamp)}
    return {"headers": headers | {"webhook-signature": signature}, "body": body}


def cases() -> list[tuple[dict[str, object], bool]]:
    """Return requests, each with the verdict that a receiver must come to."""
    good = [(signed(body), True) for body in BODIES]
    rotating = signed("{}")
    rotating["headers"]["webhook-signature"] = (  # type: ignore[index]
        f"{signed('{}', secret='whsec_' + 'A' * 40)['headers']['webhook-signature']} "  # type: ignore[index]
        f"{rotating['headers']['webhook-signature']}"  # type: ignore[index]
    )
    tampered = signed("{}") | {"body": "{ }"}
    old = signed("{}", age_seconds=400)
    foreign = signed("{}", secret="whsec_" + "A" * 40)
    wrong = [tampered, old, foreign, *strangers()]
    return [*good, (rotating, True), *((request, False) for request in wrong)]


def strangers() -> list[dict[str, object]]:
    """Return what others may send to a public address: our headers missing, or nonsense."""
    headers = signed("{}")["headers"]
    assert isinstance(headers, dict)
    without = [
        {name: value for name, value in headers.items() if name != left_out} for left_out in headers
    ]
    nonsense = [headers | {"webhook-timestamp": text} for text in ("", "soon", "-1", "1e99", "²")]
    nonsense += [headers | {"webhook-signature": text} for text in ("", "v1,", "v1,ü", "v1")]
    return [{"headers": each, "body": "{}"} for each in [{}, *without, *nonsense]]


PYTHON = """
import json, sys
print(json.dumps([verify(sys.argv[1], each["headers"], each["body"].encode())
                  for each in json.load(sys.stdin)]))
"""
NODE = """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(
  given.map((each) => verify(process.argv[2], each.headers, Buffer.from(each.body)))));
"""
PHP = """
$given = json_decode(file_get_contents('php://stdin'), true);
echo json_encode(array_map(
    fn ($each) => verify($argv[1], $each['headers'], $each['body']), $given));
"""
GO = """
func main() {
	var given []struct {
		Headers map[string]string
		Body    string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	verdicts := []bool{}
	for _, each := range given {
		headers := http.Header{}
		for name, value := range each.Headers {
			headers.Set(name, value)
		}
		verdicts = append(verdicts, verify(os.Args[1], headers, []byte(each.Body)))
	}
	json.NewEncoder(os.Stdout).Encode(verdicts)
}
"""


def verdicts(command: list[str]) -> list[bool]:
    """Run a programme over the cases and return what it said."""
    requests = json.dumps([request for request, _ in cases()])
    ended = subprocess.run(command, input=requests, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return list(json.loads(ended.stdout))


def test_python_of_the_receivers_page_verifies(tmp_path: Path) -> None:
    """The Python that the page shows accepts what we sign and refuses everything else."""
    program = tmp_path / "verify.py"
    program.write_text(snippet("docs/webhook-callbacks.md", "python") + PYTHON)
    expected = [verdict for _, verdict in cases()]
    assert verdicts([sys.executable, str(program), SECRET]) == expected


def test_the_example_verifies() -> None:
    """The client in one file accepts what we sign and refuses everything else."""
    verify = runpy.run_path(str(ROOT / "examples/webhook_example.py"))["verify"]
    for request, verdict in cases():
        assert verify(SECRET, request["headers"], str(request["body"]).encode()) is verdict


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed here")
def test_node_of_the_receivers_page_verifies(tmp_path: Path) -> None:
    """The JavaScript that the page shows accepts what we sign and refuses everything else."""
    program = tmp_path / "verify.cjs"
    program.write_text(snippet("docs/webhook-callbacks.md", "javascript") + NODE)
    expected = [verdict for _, verdict in cases()]
    assert verdicts(["node", str(program), SECRET]) == expected


@pytest.mark.skipif(not shutil.which("php"), reason="PHP is not installed here")
def test_php_of_the_receivers_page_verifies(tmp_path: Path) -> None:
    """The PHP that the page shows accepts what we sign and refuses everything else."""
    program = tmp_path / "verify.php"
    program.write_text("<?php\n" + snippet("docs/webhook-callbacks.md", "php") + PHP)
    expected = [verdict for _, verdict in cases()]
    command = ["php", "-d", "error_reporting=-1", "-d", "display_errors=1"]
    assert verdicts([*command, str(program), SECRET]) == expected


@pytest.mark.skipif(not shutil.which("go"), reason="Go is not installed here")
def test_go_of_the_receivers_page_verifies(tmp_path: Path) -> None:
    """The Go that the page shows compiles, accepts what we sign and refuses everything else."""
    program = tmp_path / "main.go"
    code = snippet("docs/webhook-callbacks.md", "go")
    code = code.replace("import (", 'import (\n\t"encoding/json"\n\t"os"', 1)
    program.write_text("package main\n\n" + code + GO)
    built = tmp_path / "verify"
    subprocess.run(["go", "build", "-o", str(built), str(program)], check=True, timeout=300)
    expected = [verdict for _, verdict in cases()]
    assert verdicts([str(built), SECRET]) == expected


def raised_problems() -> set[tuple[str, str]]:
    """Return (status, code) of every problem that the code of the API names in one place."""
    admins = ROOT / "moviesvc/admin_gate.py"
    code = "\n".join(
        file.read_text()
        for app in ("moviesvc", "tasks_app", "webhooks_app")
        for file in (ROOT / app).rglob("*.py")
        if file != admins
    )
    return set(re.findall(r"""\(\s*([45]\d\d), ["']([a-z_]+)["']""", code))


def test_the_table_of_errors_has_every_code() -> None:
    """Each status and code with which the API refuses a request is in the clients' page."""
    table = (ROOT / "docs/api.md").read_text()
    rows = re.findall(r"^\| ([45]\d\d) \| (`[^|]+) \|", table, re.MULTILINE)
    told = {(status, code) for status, codes in rows for code in re.findall("`([a-z_]+)`", codes)}
    raised = raised_problems()
    assert len(raised) >= 25
    assert raised - told == set()


def test_links_between_the_pages_lead_somewhere() -> None:
    """Every relative link of the pages at the top and in docs/ names a file that is there."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_pages_name_files_that_exist() -> None:
    """Every file and folder of ours that a page names in code exists."""
    ours = r"`((?:moviesvc|tasks_app|webhooks_app|tests|docs|examples)/[\w/.-]+)[^`]*`"
    named = {
        (page.name, path)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
        for path in re.findall(ours, page.read_text())
    }
    assert len(named) >= 20
    assert {(page, path) for page, path in named if not (ROOT / path).exists()} == set()


def test_the_way_of_a_webhook_is_the_way_through_the_code() -> None:
    """Each step of the developers' page names modules, and functions that are defined there."""
    text = (ROOT / "docs/WEBHOOK_IMPLEMENTATION.md").read_text()
    steps = re.findall(r"^\| \d\. [^|]+\| ([^|]+) \|", text, re.MULTILINE)
    places = [re.findall("`([^`]+)`", place) for step in steps for place in step.split("; ")]
    assert len(places) >= 12
    for path, *names in places:
        code = (ROOT / path).read_text()
        assert [name for name in names if not re.search(rf"\bdef {name}\(", code)] == []


@pytest.mark.parametrize("name", drawings.PICTURES)
def test_the_picture_is_of_today(name: str) -> None:
    """The picture in the docs is what the plan draws, and the page shows it."""
    is_of_today = (drawings.FOLDER / name).read_text() == drawings.PICTURES[name]()
    assert is_of_today, "draw it anew: .venv/bin/python -m tests.support.drawings"
    assert f"(images/{name})" in ARCHITECTURE


def test_the_tables_of_who_accepts_what_are_of_today() -> None:
    """The page of providers shows what the providers themselves say that they take."""
    is_of_today = accepts_table.PAGE.read_text() == accepts_table.page()
    assert is_of_today, "write it anew: .venv/bin/python -m tests.support.accepts_table"


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
    table = ARCHITECTURE.partition(f"| room of `{app}`")[2].partition("\n\n")[0]
    folders = {path.name for path in (ROOT / app).iterdir() if (path / "__init__.py").exists()}
    told = {name for name in folders if f"`{name}`" in table}
    assert folders - told == {"management", "migrations"}
