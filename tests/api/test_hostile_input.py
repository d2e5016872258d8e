"""Does every hostile request get a 4xx problem, and store nothing?"""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from tasks_app.models import Task
from tests.support.factories import SEED_REQUEST, make_api_key

pytestmark = pytest.mark.django_db
SUBMIT = "/api/v1/tasks/submit"


def with_metadata(value: str) -> bytes:
    """The seed request with this JSON text as its metadata."""
    body = json.dumps({**SEED_REQUEST, "metadata": "PLACE"})
    return body.replace('"PLACE"', value).encode()


MALFORMED: dict[str, bytes] = {
    "no body": b"",
    "no JSON": b"project_id=a",
    "cut off": b'{"project_id": "a"',
    "a comma too many": b'{"project_id": "a",}',
    "two documents": b"{} {}",
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "a byte order mark alone": b"\xef\xbb\xbf",
    "not UTF-8": b'{"project_id": "\xff"}',
    "UTF-16": '{"project_id": "a"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"project_id": "a"}'.encode("utf-16-be"),
    "UTF-32": '{"project_id": "a"}'.encode("utf-32"),
    "a raw control character": b'{"project_id": "a\x01"}',
    "deep array": b"[" * 100_000,
    "deep closed array": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 980 + b"1" + b"}" * 980,
    "33 levels": with_metadata('{"a":' * 32 + "1" + "}" * 32),
    "an endless string of escapes": b'{"a": "' + b'\\"' * 200_000 + b"[" * 40,
    "NUL in a value": with_metadata('{"a": "\\u0000"}'),
    "NUL in a key": with_metadata('{"\\u0000": 1}'),
    "half a surrogate pair": with_metadata('{"a": "\\ud800"}'),
    "halves in the wrong order": with_metadata('{"a": "\\udc00\\ud800"}'),
    "a duplicate key": b'{"project_id": "a", "project_id": "b"}',
    "a duplicate key inside": with_metadata('{"a": 1, "a": 2}'),
    "a duplicate key by escape": with_metadata('{"a": 1, "\\u0061": 2}'),
    "NaN": with_metadata('{"a": NaN}'),
    "Infinity": with_metadata('{"a": -Infinity}'),
    "1e400": with_metadata('{"a": 1e400}'),
    "an integer beyond 2^53": with_metadata('{"a": 9007199254740993}'),
    "an integer of 4,299 digits": with_metadata('{"a": ' + "9" * 4299 + "}"),
    "an integer of 5,001 digits": with_metadata('{"a": ' + "9" * 5001 + "}"),
}


def problem_of(answer: Any) -> dict[str, Any]:
    """Return the problem in an answer, after checking its form."""
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer["X-Request-ID"]
    assert {"type", "title", "detail", "instance", "errors"} <= set(problem)
    return problem


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_document_is_400(api: Client, body: bytes) -> None:
    """Bytes that two parsers could read in two ways, or the database cannot store, are refused."""
    answer = api.generic("POST", SUBMIT, body, content_type="application/json")
    assert answer.status_code == 400, answer.content
    assert problem_of(answer)["code"] == "malformed_json"
    assert not Task.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"a"', b"[[{}]]", b"true"])
def test_documents_that_are_no_object_are_422(api: Client, body: bytes) -> None:
    """They are JSON, so not 400: the error points to the document's root."""
    answer = api.generic("POST", SUBMIT, body, content_type="application/json")
    assert answer.status_code == 422, answer.content
    problem = problem_of(answer)
    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [("", "bad_type")]


def test_awkward_but_right_documents_are_taken(api: Client) -> None:
    """An escaped backslash before u0000, emoji, 32 levels and 2^53 are accepted."""
    nested = '{"a":' * 31 + "9007199254740992" + "}" * 31
    for value in ('{"a": "\\\\u0000"}', '{"a": "\\ud83d\\ude00"}', nested, '{"a": 1e-400}'):
        answer = api.generic("POST", SUBMIT, with_metadata(value), content_type="application/json")
        assert answer.status_code == 201, answer.content


CONTENT_TYPES = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "application/xml",
    "application/json; charset=bogus-8",
    "application/json; charset=idna",
    "application/json; charset=utf-16",
    "",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_other_content_types_are_415(api: Client, content_type: str) -> None:
    """Only JSON in UTF-8 is accepted; a form is not parsed as JSON."""
    body = json.dumps(SEED_REQUEST).encode()
    answer = api.generic("POST", SUBMIT, body, content_type=content_type)
    assert answer.status_code == 415
    problem_of(answer)


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
def test_encoded_bodies_are_415(api: Client, encoding: str) -> None:
    """A compressed body is refused without being decompressed."""
    answer = api.generic(
        "POST",
        SUBMIT,
        b"{}",
        content_type="application/json",
        headers={"Content-Encoding": encoding},
    )
    assert answer.status_code == 415
    problem_of(answer)


def test_large_bodies_are_413(api: Client) -> None:
    """3 MB are refused by Content-Length, and by the real size if that header is wrong."""
    body = with_metadata('{"a": "' + "x" * 3_000_000 + '"}')
    answer = api.generic("POST", SUBMIT, body, content_type="application/json")
    assert answer.status_code == 413
    assert problem_of(answer)["code"] == "too_large"


QUERIES = [
    "?status=%00",
    "?project_id=%00",
    "?task_type=%00",
    "?cursor=%00",
    "?cursor=e30=",
    "?cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwiYSJd",
    "?created_after=%00",
    "?created_after=0001-01-01T00:00:00%2B23:00",
    "?created_before=yesterday",
    "?limit=-1",
    "?limit=0",
    "?limit=1000000",
    "?limit=99999999999999999999",
    "?limit=1e3",
    "?ordering=api_key__hashed_key",
    "?api_key__hashed_key__startswith=a",
    "?statsu=queued",
    "?status=queued&status=failed",
    "?%00=1",
]


@pytest.mark.parametrize("query", QUERIES)
def test_hostile_query_strings_are_422(api: Client, query: str) -> None:
    """A list's 422 names the wrong parameter, never the database's error."""
    answer = api.get(f"/api/v1/tasks{query}")
    assert answer.status_code == 422, answer.content
    assert problem_of(answer)["errors"][0]["parameter"]


@pytest.mark.parametrize(
    "task_id",
    [
        "%00",
        "a" * 3000,
        "..%2f..",
        "{00000000-0000-0000-0000-000000000000}",
        "00000000000000000000000000000000",
        "urn:uuid:00000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-00000000000A",
        "0",
        "%F0%9F%98%80",
    ],
)
def test_ids_that_are_none_are_404(api: Client, task_id: str) -> None:
    """An invalid id gets the same answer as an absent one."""
    answer = api.get(f"/api/v1/tasks/{task_id}")
    assert answer.status_code == 404
    assert problem_of(answer)["code"] == "not_found"


@pytest.mark.parametrize("key", ["", "\0", "a" * 10_000, "abcdefgh.", ".", "' OR 1=1", "é", "a,b"])
def test_hostile_keys_are_401(db: None, key: str) -> None:
    """An invalid key header is refused and breaks nothing."""
    answer = Client().get("/api/v1/tasks", HTTP_X_API_KEY=key)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("ApiKey")
    problem_of(answer)


def test_two_key_headers_are_no_key(db: None) -> None:
    """A server joins repeated headers with a comma; then neither key is valid."""
    first, second = make_api_key()[1], make_api_key()[1]
    answer = Client().get("/api/v1/tasks", HTTP_X_API_KEY=f"{first},{second}")
    assert answer.status_code == 401


def test_method_override_headers_are_ignored(api: Client) -> None:
    """A header that overrides the method is ignored."""
    for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        answer = api.get("/api/v1/tasks", headers={header: "DELETE"})
        assert answer.status_code == 200


def test_no_other_site_may_read(api: Client) -> None:
    """No request gets a CORS header."""
    answer = api.get("/api/v1/tasks", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_options_and_head_leak_nothing(api: Client) -> None:
    """OPTIONS is refused without a description; HEAD has no body, and needs the key as GET does."""
    assert api.options("/api/v1/tasks").status_code == 405
    assert api.head("/api/v1/tasks").content == b""
    assert Client().head("/api/v1/tasks").status_code == 401
    assert Client().options("/api/v1/tasks/submit").status_code == 401


def test_framework_errors_are_problems(api: Client, settings: Any) -> None:
    """404 outside the API, a foreign Host, 405 and 406 are problem+json, too."""
    assert problem_of(api.get("/nowhere"))["status"] == 404
    assert problem_of(api.get("/api/v1/nowhere"))["status"] == 404
    assert problem_of(api.get("/api/v1/tasks", headers={"Host": "evil.example"}))["status"] == 400
    answer = api.put("/api/v1/tasks", b"{}", "application/json")
    assert problem_of(answer)["status"] == 405
    assert problem_of(answer)["detail"].endswith("Allow lists those it knows.")
    assert "GET" in answer["Allow"]
    page = problem_of(api.get("/api/v1/tasks", headers={"Accept": "text/html"}))
    assert page["status"] == 406
    assert "application/json" in page["detail"]


def test_faults_of_ours_are_problems_without_detail(
    api: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug gives a 500 with the request id and no details."""
    settings.GENERATION_PROVIDERS = {"video_generation": 5}
    api.raise_request_exception = False
    answer = api.post(SUBMIT, SEED_REQUEST, "application/json")
    assert answer.status_code == 500
    problem = problem_of(answer)
    assert problem["code"] == "internal_error"
    assert "TypeError" not in answer.content.decode()


def test_request_ids_of_clients_are_kept_or_replaced(api: Client) -> None:
    """A valid X-Request-ID is returned; one that could forge a log line is replaced."""
    assert api.get("/", headers={"X-Request-ID": "abc-1"})["X-Request-ID"] == "abc-1"
    forged = api.get("/", headers={"X-Request-ID": "a b\x1b[31m"})["X-Request-ID"]
    assert len(forged) == 32
