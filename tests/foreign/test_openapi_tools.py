"""Do the generators and linters that people use understand our OpenAPI document, and all of it?

Each tool reads the document that a running service shows. What they make of it is compiled and,
where a client comes out, called against that service by a few lines in the folder `openapi`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.support import factories
from tests.support.server import WebServer, no_renders
from tests.support.servers.programs import GENERATORS, program

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
LINES = ROOT / "tests/foreign/openapi"
#: The tools use no network: no telemetry, no check for updates, no download.
QUIET = {
    "REDOCLY_TELEMETRY": "off",
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    "GOFLAGS": "-mod=mod",
    "GOPROXY": "off",
    # Half the processor time for a program that lives for seconds.
    "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


#: What openapi-generator says of any document that is OpenAPI 3.1, or lets a value be a list.
ALWAYS = ("OpenAPI 3.1 support is still in beta", "Failed to get the schema name: null")


#: openapi-python-client knows no pictures, unless it is told that they are bytes.
PICTURES = {"image/jpeg": "application/octet-stream", "image/png": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    """The service whose document is tested."""
    with django_db_blocker.unblock(), WebServer(processes=1, **no_renders()) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document as a file."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(server.call("GET", "/api/v1/schema").content)
    return path


def run(name: str, *arguments: object, cwd: Path, status: int = 0) -> str:
    """Run a tool, which must succeed, and return its output."""
    path = program(name)
    done = subprocess.run(
        [path, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **QUIET, "PATH": f"{Path(path).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout[-6_000:]
    return done.stdout


def operations(document: Path, tag: str) -> set[str]:
    """Return the operations of one tag, as the document names them."""
    told = json.loads(document.read_bytes())
    described = [*told["paths"].values(), *told["webhooks"].values()]
    return {
        one["operationId"]
        for methods in described
        for one in methods.values()
        if one["tags"] == [tag]
    }


def test_redocly_finds_nothing(document: Path, tmp_path: Path) -> None:
    """Its recommended rules, none of them off: no error, no warning, nothing ignored."""
    said = run("redocly", "lint", document, "--format=json", cwd=tmp_path)
    found = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    assert found["problems"] == []
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


def test_spectral_finds_nothing(document: Path, tmp_path: Path) -> None:
    """The linter's rules for OpenAPI, all of them on: not even a hint is reported."""
    (tmp_path / "rules.yaml").write_text('extends: ["spectral:oas"]\n')
    options = ("--ruleset", "rules.yaml", "--fail-severity=hint")
    assert "No results" in run("spectral", "lint", *options, document, cwd=tmp_path)


def test_typescript_types_fit_what_people_write(document: Path, tmp_path: Path) -> None:
    """openapi-typescript's types compile strictly, and members with a default stay optional."""
    said = run("openapi-typescript", document, "-o", "types.ts", cwd=tmp_path)
    assert "warn" not in said.lower()
    shutil.copy(LINES / "client.ts", tmp_path)
    run("tsc", "--strict", "--noEmit", "--target", "es2022", "client.ts", cwd=tmp_path)


def test_the_generated_python_client_submits(
    server: WebServer, document: Path, tmp_path: Path
) -> None:
    """openapi-python-client leaves nothing out; its package submits and reads a task."""
    (tmp_path / "config.json").write_text(json.dumps({"content_type_overrides": PICTURES}))
    options = ("--meta=none", "--output-path=generated", "--fail-on-warning")
    options += ("--config=config.json",)
    said = run("openapi-python-client", "generate", f"--path={document}", *options, cwd=tmp_path)
    assert "warning" not in said.lower()
    key = factories.make_api_key(project_id=factories.PROJECT)[1]
    shutil.copy(LINES / "client.py", tmp_path)
    said = run(str(GENERATORS.folder / "python"), "client.py", server.url, key, cwd=tmp_path)
    assert said.split()[1:] == ["queued", "high", "not_found"]


def test_python_models_have_names_that_mean_something(document: Path, tmp_path: Path) -> None:
    """datamodel-code-generator gives no class a number, and its models accept our examples."""
    options = ("--input-file-type=openapi", "--output-model-type=pydantic_v2.BaseModel")
    more = ("--formatters=builtin", "--target-python-version=3.11", "--output=models.py")
    said = run("datamodel-codegen", f"--input={document}", *options, *more, cwd=tmp_path)
    assert said == ""
    classes = re.findall(r"^class (\w+)", (tmp_path / "models.py").read_text(), re.M)
    assert [name for name in classes if name[-1].isdigit()] == []
    assert {"TaskStatus", "TaskType", "MessageStatus", "TaskCompletedEvent"} <= set(classes)
    told = json.loads(document.read_bytes())
    submit = told["paths"]["/api/v1/tasks/submit"]["post"]["requestBody"]["content"]
    sample = next(iter(submit["application/json"]["examples"].values()))["value"]
    read = f"import models; models.Submit.model_validate_json({json.dumps(sample)!r})"
    run(str(GENERATORS.folder / "python"), "-W", "error", "-c", read, cwd=tmp_path)


def test_the_generated_go_client_submits(server: WebServer, document: Path, tmp_path: Path) -> None:
    """oapi-codegen's client compiles, submits and reads the task."""
    for name in ("go.mod", "go.sum", "main.go"):
        shutil.copy(LINES / name, tmp_path)
    (tmp_path / "client").mkdir()
    options = ("-package=client", "-generate=types,client", "-o=client/client.go")
    assert run("oapi-codegen", *options, document, cwd=tmp_path) == ""
    assert run("go", "build", "-o", "submit", ".", cwd=tmp_path) == ""
    key = factories.make_api_key(project_id=factories.PROJECT)[1]
    said = run(str(tmp_path / "submit"), server.url, key, cwd=tmp_path)
    assert said.split()[1:] == ["queued", "normal"]


def test_openapi_generator_overwrites_no_class(document: Path, tmp_path: Path) -> None:
    """Its TypeScript client has every operation, compiles, and nothing was renamed on the way."""
    program("java")
    # Without the property it imports the form of an upload, and makes no file for it.
    form = ("--global-property", "skipFormModel=false")
    options = ("-g", "typescript-fetch", "-o", "generated", *form)
    said = run("openapi-generator-cli", "generate", "-i", document, *options, cwd=tmp_path)
    warnings = [line for line in said.splitlines() if " WARN " in line or " ERROR " in line]
    assert [line for line in warnings if not any(known in line for known in ALWAYS)] == []
    for tag in ("tasks", "assets", "webhooks", "receiver", "service"):
        text = (tmp_path / f"generated/apis/{tag.capitalize()}Api.ts").read_text()
        assert set(re.findall(r"async (\w+)Raw\(", text)) == operations(document, tag)
    options = ("--strict", "--noEmit", "--target", "es2022", "--moduleResolution", "bundler")
    run("tsc", *options, "--module", "es2022", "generated/index.ts", cwd=tmp_path)
