"""Does a filter mean one thing only? Values are compared as JSON knows them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webhooks_app.outbox import filters

BODY = {
    "status": "completed",
    "result": {"files": [{"role": "primary"}, {"role": "thumbnail"}]},
    "processing_time": 315,
    "metadata": {
        "userId": "user-123",
        "n": 1,
        "half": 0.5,
        "big": 2**63 + 1,
        "yes": True,
        "nothing": None,
        "a/b": {"m~n": 1, "": "empty"},
        "text": "1",
        "é": "é",
    },
}


def holds(path: str, op: str, *value: Any, body: Any = BODY) -> bool:
    condition = {"path": path, "op": op, **({"value": value[0]} if value else {})}
    assert filters.faults(condition) == []
    return filters.matches(condition, filters.read(json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("path", "op", "value", "expected"),
    [
        ("/metadata/userId", "eq", "user-123", True),
        ("/metadata/userId", "eq", "user-12", False),
        ("/metadata/userId", "eq", "User-123", False),
        ("/metadata/n", "eq", 1, True),
        ("/metadata/n", "eq", 1.0, True),
        ("/metadata/n", "eq", "1", False),
        ("/metadata/n", "eq", True, False),
        ("/metadata/text", "eq", 1, False),
        ("/metadata/yes", "eq", True, True),
        ("/metadata/yes", "eq", 1, False),
        ("/metadata/yes", "in", [1, "true"], False),
        ("/metadata/big", "eq", 2**63 + 1, True),
        ("/metadata/big", "eq", 2**63, False),
        ("/metadata/big", "eq", float(2**63), False),
        ("/metadata/half", "eq", 0.5, True),
        ("/metadata/nothing", "eq", None, True),
        ("/metadata/absent", "eq", None, False),
        ("/metadata/absent", "in", [None, "absent"], False),
        ("/metadata/absent", "exists", False, True),
        ("/metadata/absent", "exists", True, False),
        ("/metadata/nothing", "exists", True, True),
        ("/metadata/nothing", "exists", False, False),
        ("/metadata/userId", "in", ["x", "user-123"], True),
        ("/metadata/userId", "in", ["x"], False),
        ("/metadata/userId", "prefix", "user-", True),
        ("/metadata/userId", "prefix", "ser", False),
        ("/metadata/n", "prefix", "1", False),
        ("/metadata/a~1b/m~0n", "eq", 1, True),
        ("/metadata/a~1b/", "eq", "empty", True),
        ("/metadata/a~1b", "eq", None, False),
        ("/metadata/e\u0301", "exists", True, False),
        ("/result/files/1/role", "eq", "thumbnail", True),
        ("/result/files/01/role", "exists", True, False),
        ("/result/files/-", "exists", True, False),
        ("/result/files/2", "exists", True, False),
        ("/result/files/role", "exists", True, False),
        ("/status/0", "exists", True, False),
    ],
)
def test_one_condition(path: str, op: str, value: Any, expected: bool) -> None:
    """Types are never converted, null is not absence, and a pointer is read as RFC 6901 says."""
    assert holds(path, op, value) is expected
    assert filters.matches({"not": {"path": path, "op": op, "value": value}}, BODY) is not expected


def test_exists_without_a_value_means_there() -> None:
    """`exists` alone asks for the path to be there."""
    assert holds("/status", "exists")
    assert not holds("/state", "exists")


EQ = {"path": "/a", "op": "eq", "value": 1}


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        (None, {"": "bad_type"}),
        ([], {"": "bad_type"}),
        ({}, {"": "required"}),
        ({"all": []}, {"/all": "required"}),
        ({"any": EQ}, {"/any": "bad_type"}),
        ({"not": [EQ]}, {"/not": "bad_type"}),
        ({"all": [EQ], "any": [EQ]}, {"/any": "not_allowed"}),
        ({"all": [EQ], "path": "/a"}, {"/path": "not_allowed"}),
        ({"all": [{**EQ, "op": "="}]}, {"/all/0/op": "not_allowed"}),
        ({"all": [{**EQ, "op": ["eq"]}]}, {"/all/0/op": "bad_type"}),
        ({"all": [EQ, 7]}, {"/all/1": "bad_type"}),
        ({"any": [{"not": {"path": "/a", "op": "eq"}}]}, {"/any/0/not/value": "required"}),
        (
            {"op": "eq", "valeu": 1},
            {"/path": "required", "/value": "required", "/valeu": "unknown_field"},
        ),
        ({**EQ, "path": "a"}, {"/path": "bad_format"}),
        ({**EQ, "path": ""}, {"/path": "bad_format"}),
        ({**EQ, "path": "/a~2"}, {"/path": "bad_format"}),
        ({**EQ, "path": "/a\0"}, {"/path": "bad_format"}),
        ({**EQ, "path": 1}, {"/path": "bad_type"}),
        ({**EQ, "value": {"a": 1}}, {"/value": "bad_type"}),
        ({**EQ, "value": "\ud800"}, {"/value": "bad_format"}),
        ({**EQ, "value": float("inf")}, {"/value": "out_of_range"}),
        ({**EQ, "op": "in"}, {"/value": "bad_type"}),
        ({**EQ, "op": "in", "value": []}, {"/value": "required"}),
        ({**EQ, "op": "in", "value": [1, []]}, {"/value/1": "bad_type"}),
        ({**EQ, "op": "in", "value": [1] * 51}, {"/value": "too_long"}),
        ({**EQ, "op": "prefix"}, {"/value": "bad_type"}),
        ({**EQ, "op": "prefix", "value": ""}, {"/value": "required"}),
        ({**EQ, "op": "exists"}, {"/value": "bad_type"}),
        ({"all": [EQ] * 21}, {"": "too_long"}),
        ({"all": [{"any": [EQ] * 11}, {"not": {"all": [EQ] * 10}}]}, {"": "too_long"}),
        ({**EQ, "value": "x" * 8_192}, {"": "too_long"}),
        ({"not": {"not": {"not": {"not": {"not": EQ}}}}}, {"/not/not/not/not": "too_long"}),
    ],
)
def test_what_a_filter_may_not_be(given: Any, pointers: dict[str, str]) -> None:
    """Each fault has a pointer to the member that is wrong, and a code."""
    found = filters.faults(given)
    assert {fault.pointer: fault.code for fault in found} == pointers
    assert all(fault.message.endswith(".") for fault in found)


def test_the_largest_filter_is_taken() -> None:
    """Twenty conditions in four groups within one another are not too many."""
    assert filters.faults({"all": [{"any": [{"not": {"all": [EQ] * 19}}]}, EQ]}) == []


#: Of a busy machine nothing is proved.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, 1.0, 1.5, -0.0, "", "0", "1", "1.0", "true", "a", "ab"])
)
NAMES = st.sampled_from(["a", "b", "0", "", "~", "/", "~1"])
BODIES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)


def pointer(tokens: list[str]) -> str:
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)


PATHS = st.lists(NAMES, min_size=1, max_size=3).map(pointer)
CONDITIONS = st.one_of(
    st.fixed_dictionaries({"path": PATHS, "op": st.just("eq"), "value": SCALARS}),
    st.fixed_dictionaries(
        {"path": PATHS, "op": st.just("in"), "value": st.lists(SCALARS, min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries(
        {"path": PATHS, "op": st.just("prefix"), "value": st.sampled_from(["a", "1", "tr"])}
    ),
    st.fixed_dictionaries({"path": PATHS, "op": st.just("exists"), "value": st.booleans()}),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.builds(lambda items: {"all": items}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda items: {"any": items}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda item: {"not": item}, inner),
    ),
    max_leaves=6,
)


def as_json(value: Any) -> str:
    """Write a scalar such that equal JSON values, and only those, have one text."""
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    return json.dumps(float(value) + 0.0 if number else value)


def meant(given: Any, document: Any) -> bool:
    """Say what the documentation says, without the product's code."""
    if "all" in given:
        return not any(not meant(item, document) for item in given["all"])
    if "any" in given:
        return any(meant(item, document) for item in given["any"])
    if "not" in given:
        return not meant(given["not"], document)
    found = [document]
    for token in given["path"].split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        members = [dict(enumerate(each)) if type(each) is list else each for each in found]
        members = [each for each in members if type(each) is dict]
        found = [each[key] for each in members for key in each if str(key) == name]
    if given["op"] == "exists":
        return bool(found) == given["value"]
    scalars = [each for each in found if type(each) not in (list, dict)]
    if given["op"] == "prefix":
        return any(type(each) is str and each.find(given["value"]) == 0 for each in scalars)
    values = given["value"] if given["op"] == "in" else [given["value"]]
    return any(as_json(each) in map(as_json, values) for each in scalars)


@settings(PATIENT, max_examples=300)
@given(FILTERS, BODIES)
def test_any_filter_on_any_body_means_what_is_documented(wanted: Any, body: Any) -> None:
    """A filter agrees with a plain reading of its documentation, and its explanation with it."""
    if filters.faults(wanted):
        return  # too deep
    document = filters.read(json.dumps(body).encode())
    result = filters.matches(wanted, document)
    assert result == meant(wanted, body)
    looked = filters.explain(wanted, document)
    assert any(each.decided for each in looked)
    # What decided is enough: whatever the others had seen, the result is the same.
    for other in (True, False):
        forced = {each.pointer: each.holds if each.decided else other for each in looked}
        assert _with(wanted, forced, "") == result


def _with(node: Any, results: dict[str, bool], at: str) -> bool:
    for name in ("all", "any"):
        if name in node:
            inside = [_with(n, results, f"{at}/{name}/{i}") for i, n in enumerate(node[name])]
            return all(inside) if name == "all" else any(inside)
    if "not" in node:
        return not _with(node["not"], results, f"{at}/not")
    return results[at]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["all", "any", "not", "path", "op", "value", "x"]), inner, max_size=4
        )
    ),
    max_leaves=30,
)


@PATIENT
@given(JSON, BODIES)
def test_whatever_is_stored_is_judged_without_an_exception(wanted: Any, body: Any) -> None:
    """Any JSON has faults or can be used; the pointers of faults lead into it."""
    found = filters.faults(wanted)
    for fault in found:
        assert fault.pointer == "" or fault.pointer.startswith("/")
    if not found:
        assert filters.matches(wanted, body) in (True, False)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"not json", b'{"a": ' + b"9" * 5_000 + b"}"],
)
def test_a_body_that_cannot_be_read_has_no_values(body: bytes) -> None:
    """Of a body that is not JSON, or too deep, no path leads anywhere; a long number is one."""
    document = filters.read(body)
    assert not filters.matches(EQ, document)
    there = {"path": "/a", "op": "exists"}
    assert filters.matches(there, document) == body.startswith(b'{"a"')


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "number"),
        (1.5, "number"),
        ("", "string"),
        ([], "array"),
        ({}, "object"),
        (filters.MISSING, "missing"),
    ],
)
def test_kinds(seen: Any, kind: str) -> None:
    """Each JSON type has a name, and so has absence."""
    assert filters.kind_of(seen) == kind
