"""Do the pages for users tell the truth? Their code is taken out and run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from webhooks_app.signing import scheme

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
    return [*good, (rotating, True), (tampered, False), (old, False), (foreign, False)]


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


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed here")
def test_node_of_the_receivers_page_verifies(tmp_path: Path) -> None:
    """The JavaScript that the page shows accepts what we sign and refuses everything else."""
    program = tmp_path / "verify.cjs"
    program.write_text(snippet("docs/webhook-callbacks.md", "javascript") + NODE)
    expected = [verdict for _, verdict in cases()]
    assert verdicts(["node", str(program), SECRET]) == expected


def test_links_between_the_pages_lead_somewhere() -> None:
    """Every relative link of the pages at the top and in docs/ names a file that is there."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_the_way_of_a_webhook_names_files_that_exist() -> None:
    """Every module, test and page that the developers' page of webhooks names is there."""
    text = (ROOT / "docs/WEBHOOK_IMPLEMENTATION.md").read_text()
    paths = re.findall(r"`((?:tasks_app|webhooks_app|tests)/[\w/.]+)`", text)
    assert len(paths) >= 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
