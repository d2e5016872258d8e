"""The receiver as a program: its log survives the death of any process."""

import asyncio
import json
import subprocess
import sys
import time

from django.test import override_settings

from tests import ROOT
from webhooks_app.signing.scheme import generate_secret, signature_header
from webhooks_app.transport.client import Transport


def test_program_logs_each_request_before_it_answers(tmp_path):
    """Proves that what was answered is on disk, verified, when the program is killed."""
    log, secret, body, now = tmp_path / "requests.jsonl", generate_secret(), b"{}", int(time.time())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature_header([secret], "msg_1", now, body),
    }
    command = [sys.executable, "-m", "tests.support.receiver", "--log", str(log)]
    command += ["--answers", "500,200", "--secret", secret]

    async def send(port):
        async with Transport() as transport:
            url = f"http://127.0.0.1:{port}/hook"
            return [(await transport.send(url, headers, body, 5)).status for _ in range(2)]

    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        port = int(program.stdout.readline())
        settings = {"REQUIRE_HTTPS": False, "ALLOW_NETWORKS": ["127.0.0.1/32"]}
        with override_settings(WEBHOOKS=settings):
            assert asyncio.run(send(port)) == [500, 200]
        program.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["headers"]["webhook-id"] for line in lines] == ["msg_1", "msg_1"]
    assert all(line["is_verified"] for line in lines)
