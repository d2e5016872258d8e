"""Is there one registry for each kind of thing? A new entry has to show up wherever it matters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.support import factories, fake_entries
from tests.support.processes import environment

TYPE, EVENT = fake_entries.TASK_TYPE, fake_entries.EVENT
TASK_ERROR, WEBHOOK_ERROR = fake_entries.TASK_ERROR, fake_entries.WEBHOOK_ERROR
#: Place -> what has to be read there.
EXPECTED = {
    "schema: submit": [f'"{TYPE}"', f'"{EVENT}"'],
    "schema: task": [f'"{TYPE}"'],
    "schema: error codes": [f"`{TASK_ERROR}`"],
    "schema: webhooks": [f'"{EVENT}"', '"paused_at"', "2025-01-15T10:30:20Z", f'"{TYPE}"'],
    "schema: endpoint": [f'"{EVENT}"'],
    "schema: messages": [f'"{WEBHOOK_ERROR}"'],
    "page": ["/api/v1/schema"],  # which was looked at above
    "submit": ["201 ", f'"{TYPE}"'],
    "provider": ["422 ", "/task_data/model", "configured ones"],
    "subscribe": ["201 ", f'"{EVENT}"'],
    "refused": ["422 ", EVENT],
    "list": [f'"{TYPE}"'],
    "figures": [f'"{TYPE}"'],
    "metrics": [
        f'task_type="{TYPE}"',
        f'error_code="{TASK_ERROR}"',
        f'error_code="{WEBHOOK_ERROR}"',
    ],
    "admin: tasks": [f"task_type={TYPE}"],
    "admin: messages": [f"event_type={EVENT}", f"last_error_code={WEBHOOK_ERROR}"],
    "admin: attempts": [f"event_type={EVENT}", f"error_code={WEBHOOK_ERROR}"],
    "migrations": ["No changes detected"],
    "inputs": ['"prompt": "a cat"'],
}


@pytest.mark.django_db(transaction=True)
def test_a_new_entry_is_known_everywhere(tmp_path: Path) -> None:
    """One line in a registry is all that a task type, an event type or an error code needs."""
    factories.make_staff("operator")
    provider = {"provider": "cog", "options": {"model": "holo-1"}}
    more = {
        "DJANGO_SETTINGS_MODULE": "moviesvc.settings",
        "GENERATION_PROVIDERS": json.dumps({TYPE: provider}),
        "METRICS_ALLOW_NETWORKS": "127.0.0.0/8",
        "METRICS_DIR": str(tmp_path),
        "KEY": factories.make_api_key(project_id="p")[1],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fake_entries"],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    shown = json.loads(done.stdout.splitlines()[-1])
    missing = {
        place: absent
        for place, texts in EXPECTED.items()
        if (absent := [text for text in texts if text not in shown[place]])
    }
    assert missing == {}, "\n".join(f"{place}: {shown[place][:300]}" for place in missing)
    assert set(shown) == set(EXPECTED)
