"""Do the operators' pages match the code: variables, figures, alerts, links, commands?"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from tasks_app import metrics
from tasks_app.models import RemoteServer
from tests import ROOT
from tests.support import factories
from webhooks_app.conf import WebhookSettings

DOCS = ROOT / "docs"
PACKAGES = ("moviesvc", "tasks_app", "webhooks_app")
#: What belongs to a request or to a library, not to our environment.
NOT_OURS = {
    *(
        "CONTENT_LENGTH",
        "REQUEST_METHOD",
        "PATH_INFO",
        "PROMETHEUS_MULTIPROC_DIR",
        "ORT_DISABLE_TELEMETRY",
        "DJANGO_SETTINGS_MODULE",
    ),
}
READERS = ("env", "environ", "_number")
PROMQL_WORDS = {
    *("sum", "max", "min", "rate", "increase", "absent", "topk", "histogram_quantile"),
    "quantile_over_time",
    *("by", "and", "on", "or", "unless", "le", "vector"),
}


# -- configuration.md -----------------------------------------------------------------------------


def read_variables() -> set[str]:
    """Return the names of all variables that the code reads, from its syntax trees."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            if "env" in text or "_number" in text:
                found |= set(_read_in(ast.parse(text)))
    return found - NOT_OURS


def _read_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called, first = ast.unparse(node.func), node.args[0]
        elif isinstance(node, ast.Subscript):
            called, first = ast.unparse(node.value), node.slice
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("_VARIABLE"):
            called, first = "env", node.value  # a name kept in a constant
        else:
            continue
        is_read = any(part in READERS for part in called.split("."))
        name = str(first.value) if is_read and isinstance(first, ast.Constant) else ""
        if re.fullmatch(r"[A-Z][A-Z0-9_]+", name):
            yield name


def first_column(section: str) -> list[str]:
    """Return the names in the first column of the tables of a section of configuration.md."""
    return re.findall(r"^\| `([A-Z0-9_]+)`", section, re.MULTILINE)


def test_configuration_lists_exactly_the_variables_that_the_code_reads() -> None:
    """A variable without a line in the docs, or a line without a variable, fails the test."""
    variables, _, keys = (DOCS / "configuration.md").read_text().partition("## The dict `WEBHOOKS`")
    listed = first_column(variables)
    assert len(listed) == len(set(listed))
    assert set(listed) == read_variables()
    assert first_column(keys) == [spec.name for spec in fields(WebhookSettings)]


def test_defaults_on_the_page_are_those_of_the_code() -> None:
    """Defaults in the docs' table are those of the settings."""
    page = (DOCS / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)`[^|]*\| `([^`|]+)` \|", page, re.MULTILINE))
    settings = (ROOT / "moviesvc/settings.py").read_text()
    plain = re.findall(
        r'env\.(?:int|float|str)\(\s*"([A-Z0-9_]+)", default="?([\w.]+)"?\)', settings
    )
    compared = {name: value for name, value in plain if name in rows and name != "RENDER_SLOTS"}
    assert len(compared) > 20
    for name, value in compared.items():
        assert rows[name] == value.replace("_", "" if value[0].isdigit() else "_").removesuffix(
            ".0"
        )


# -- dashboard and alerts -------------------------------------------------------------------------


@pytest.fixture
def series(db: None, settings: Any) -> dict[str, set[str]]:
    """The names that a scrape shows, each with the names of its labels."""
    entry = {"provider": "replicate", "options": {"model": "acme/painter"}}
    settings.GENERATION_PROVIDERS = {"image_generation": entry}
    server = ("replicate", "replicate")
    RemoteServer.objects.create(provider=server[0], label=server[1])
    metrics.remote_job_ended(*server, "completed")
    metrics.cost.labels("USD", "replicate")
    factories.make_destination(failing_messages=1)
    key = factories.make_api_key()[1]
    text = Client(headers={"x-api-key": key}).get("/metrics").content.decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    # Known only where a worker or an engine lives.
    found["movies_workers_alive"] = {"job", "instance"}
    return found


def check_promql(expression: str, series: dict[str, set[str]]) -> set[str]:
    """Check an expression against the existing series, and return the names it uses."""
    series = {**series, "up": {"job", "instance"}}  # Prometheus's own, of each scrape
    for left, right in ("()", "{}", "[]"):
        assert expression.count(left) == expression.count(right), expression
    bare = re.sub(r'"[^"]*"', '""', expression)
    used = set(re.findall(r"\b(?:(?:movies|webhooks)_\w+|up(?={))", bare))
    assert used, expression
    assert used <= set(series), f"{used - set(series)} in {expression}"
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", bare):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
        assert labels <= series[name], f"{labels - series[name]} of {name}"
    known = set.union(*(series[name] for name in used)) | {"le"}
    for group in re.findall(r"\bby\s*\(([^)]*)\)", bare):
        assert {label.strip() for label in group.split(",")} <= known, expression
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby\s*\([^)]*\)", " ", bare)
    words = set(re.findall(r"[a-zA-Z_]\w*", rest)) - used
    assert words <= PROMQL_WORDS, f"{words - PROMQL_WORDS} in {expression}"
    return used


def test_the_dashboard_shows_every_figure_and_none_that_is_not(
    series: dict[str, set[str]],
) -> None:
    """Each panel's expressions name series and labels of a real scrape; no figure is left out."""
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    used: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            used |= check_promql(target["expr"], series)
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in series}
    assert families == {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in used}


def test_panels_do_not_overlap() -> None:
    """Panels do not overlap, so that Grafana leaves them in place."""
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DOCS / "grafana-dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert max(columns) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_is_a_question_with_an_answer(series: dict[str, set[str]]) -> None:
    """Its expression names real series; its runbook is a heading that names the alert."""
    (group,) = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    page = (DOCS / "operations.md").read_text()
    assert len(group["rules"]) >= 10
    for rule in group["rules"]:
        check_promql(rule["expr"], series)
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert file == "operations.md"
        sections = {slug(part.partition("\n")[0]): part for part in page.split("\n## ")}
        assert f"`{rule['alert']}`" in sections[anchor], f"{anchor} does not name {rule['alert']}"


# -- links and commands ---------------------------------------------------------------------------


def slug(heading: str) -> str:
    """Return the anchor that Git hosts give a heading."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page."""
    return {slug(found) for found in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def test_the_index_names_every_page() -> None:
    """Every page is in the index."""
    index = (DOCS / "index.md").read_text()
    missing = [page.name for page in DOCS.glob("*.*") if page.name not in index]
    assert missing == ["index.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to one of our files or headings has a target."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        is_ours = not re.match(r"[a-z]+:", target)
        # Screenshots are made by a program (tests/support/screenshots.py); before its first run
        # there are none.
        if not is_ours or ("images/" in target and not (DOCS / "images").exists()):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(place), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "compose.yaml"], ids=lambda page: page.name)
def test_commands_on_the_page_exist(page: Path) -> None:
    """Every `manage.py` command that a page names exists."""
    commands = get_commands()
    for name in re.findall(r"manage\.py ([a-z_]+)", page.read_text()):
        assert name in commands, f"{page.name}: manage.py {name}"


def test_every_figure_is_explained(series: dict[str, set[str]]) -> None:
    """The table of figures in operations.md is complete."""
    page = (DOCS / "operations.md").read_text()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series}
    listed = set(re.findall(r"`((?:movies|webhooks)_\w+)`", page))
    missing: Any = families - listed
    assert not missing
