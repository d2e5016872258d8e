"""Do the alert rules fire when they should, and only then? Asked of Prometheus' own `promtool`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent
RULES, CASES = HERE.parent / "docs" / "alerts.yml", HERE / "alert_rules.yml"


def test_every_rule_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """Shows that a new rule does not come without both."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    asked = [
        a for case in yaml.safe_load(CASES.read_text())["tests"] for a in case["alert_rule_test"]
    ]
    rules = {rule["alert"] for rule in group["rules"]}
    assert {a["alertname"] for a in asked if a.get("exp_alerts")} == rules
    assert {a["alertname"] for a in asked if not a.get("exp_alerts")} == rules


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus)")
@pytest.mark.parametrize("question", [("check", RULES), ("test", CASES)], ids=["form", "cases"])
def test_promtool_agrees(question: tuple[str, Path]) -> None:
    """Shows that the rules are well formed, and fire in the cases with the words that are shown."""
    verb, path = question
    done = subprocess.run(
        ["promtool", verb, "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
