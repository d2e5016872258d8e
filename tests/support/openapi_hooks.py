"""What must schemathesis know about this API? Loaded by it, in a process of its own."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import schemathesis
from hypothesis import strategies

#: Parameter of a path -> ids that exist.
KNOWN: dict[str, list[str]] = json.loads(os.environ["KNOWN_IDS"])
#: Ids of objects made by an earlier request; requests with one are not changed.
IDENTIFIER = re.compile(r"[0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: One that is not of this form is to be refused.
PROJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
CONTENT_TYPE = "application/problem+json"
PROBLEM = {"type", "title", "status", "code", "detail", "instance", "request_id", "errors"}

# Which URLs may be called is decided by the egress policy, not by the schema.
schemathesis.openapi.format(
    "uri",
    strategies.from_regex(
        r"https://[a-z]{1,20}\.example\.org(/[a-z0-9]{1,9}){0,3}", fullmatch=True
    ),
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give every second request with an id the id of an existing object."""
    for name, ids in KNOWN.items():
        value = (case.path_parameters or {}).get(name)
        if isinstance(value, str) and len(value) % 2 and not IDENTIFIER.fullmatch(value):
            case.path_parameters[name] = ids[len(value) % len(ids)]
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("project_id"), str) and PROJECT_ID.fullmatch(body["project_id"]):
        case.body["project_id"] = KNOWN["project_id"][0]


@schemathesis.check
def every_error_is_a_problem(context: Any, response: Any, case: Any) -> None:
    """Fail on an error that is not application/problem+json with all its members."""
    if response.status_code < 400 or case.method == "HEAD":
        return
    assert response.headers["content-type"] == [CONTENT_TYPE], response.headers
    problem = response.json()
    assert set(problem) >= PROBLEM, problem
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"][0]
