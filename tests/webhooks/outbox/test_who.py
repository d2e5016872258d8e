"""What may a word of a search name, and which words are refused?"""

from __future__ import annotations

import uuid

import pytest
from django.test import override_settings

from webhooks_app.outbox import MessageFilters, who
from webhooks_app.outbox.who import Ids, InvalidFilter, Kind, Place

TASK = "7d9f1b0e-6a3c-4a5e-9b70-0f3f6f2f7c11"
EVENT = "msg_2f1c0d3b4a59687786a5b4c3d2e1f001"


def kinds(term: str) -> list[str]:
    return [str(meaning.kind) for meaning in who.meanings(term)]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("4711", ["number"]),
        ("#4711", ["number"]),
        ("12345678", ["number", "task", "project", "host", "request"]),
        (TASK, ["task", "project", "host", "request"]),
        (EVENT, ["message"]),
        (EVENT[:8], ["message"]),
        ("film", ["project", "host", "request"]),
        ("hooks.example.org", ["host", "request"]),
        ("hooks.example.org:8443", ["host"]),
        ("https://hooks.example.org/in?token=1", ["host"]),
        ("userId=42", ["metadata"]),
        ("metadata=project=film", ["metadata"]),
        ("project=film", ["project"]),
        ("task=7d9f", ["task"]),
        ("message=4711", ["number"]),
        (f"message={EVENT}", ["message"]),
        ("request=order-4711", ["request"]),
        ("callback=https://x.example.org/?a=b", ["metadata"]),
    ],
)
def test_the_form_of_a_word_says_what_it_may_name(term: str, expected: list[str]) -> None:
    """Shows that one parser tells numbers, ids, hosts, projects, requests and metadata apart."""
    assert kinds(term) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hooks.Example.org", Place("hooks.example.org")),
        ("hooks.example.org.", Place("hooks.example.org")),
        ("hooks.example.org:8443", Place("hooks.example.org", "", 8443)),
        ("hooks.example.org:8443/in", Place("hooks.example.org", "", 8443)),
        ("https://hooks.example.org", Place("hooks.example.org", "https", 443)),
        ("http://mara:pw@hooks.example.org:81/in?a=b#c", Place("hooks.example.org", "http", 81)),
        ("bücher.example", Place("xn--bcher-kva.example")),
        ("::1", Place("::1")),
        ("[::1]:8080", Place("::1", "", 8080)),
        ("https://[2001:DB8:0::1]/", Place("2001:db8::1", "https", 443)),
        ("192.0.2.1", Place("192.0.2.1")),
    ],
)
def test_a_receiver_may_be_named_in_every_way(text: str, expected: Place) -> None:
    """Shows that a host, host:port, origin or URL, as copied from anywhere, means one place."""
    assert who.read_place(text) == expected
    assert who.read_place(str(expected)) == expected


def test_the_beginning_of_an_id_means_all_that_begin_so() -> None:
    """Shows the range of UUIDs of a beginning, with and without hyphens, and its text."""
    ids = who.read_ids(TASK[:10])
    assert ids == who.read_ids(TASK[:10].replace("-", "")) == who.read_ids(TASK[:10].upper())
    assert ids.low <= uuid.UUID(TASK) <= ids.high
    assert ids.beginning == "7d9f1b0e-6"
    assert who.read_ids(f"urn:uuid:{TASK}") == Ids(uuid.UUID(TASK), uuid.UUID(TASK))
    subjects = who.subject_condition(ids, "subject")
    assert dict(subjects.children)["subject__gte"] == "7d9f1b0e-6000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "term",
    [
        *("foo bar!", "\x00", "msg_", "ftp://x.example.org/", "https://", "=42", "key="),
        *(
            "host=a b",
            "host=a..b",
            "host=a.b:99999",
            "task=zz",
            "task=7d9-f1b0e",
            "project=a b",
            "request=a b",
        ),
        *("message=abc", "message=msg_é", "9" * 25 + "!", f"key={'x' * 201}"),
    ],
)
def test_what_nothing_can_match_is_refused_with_its_shape(term: str) -> None:
    """Shows that a word without a meaning raises a sentence that says what would have one."""
    with pytest.raises(InvalidFilter) as refused:
        who.meanings(term)
    assert any(word in refused.value.message for word in ("use", "Use", "is ", "names nothing"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("status", "deed", 'Did you mean "dead"?'),
        ("event", "task.done", "task.completed"),
        ("error_code", "nonsense", "http_status"),
        ("host", "exa mple", "use a host"),
        ("task", "4711-nonsense", "its first 4 digits"),
        ("project", "a b", "letters"),
        ("request_id", "a b", "X-Request-ID"),
        ("metadata", "userId", "userId=42"),
        ("ids", ["msg_!"], "webhook-id"),
        ("since", "yesterday", "RFC 3339"),
    ],
)
def test_a_filter_that_cannot_match_names_what_can(name: str, value: object, said: str) -> None:
    """Shows, for each filter of messages, that an impossible value is refused with known ones."""
    with pytest.raises(InvalidFilter) as refused:
        MessageFilters.of({name: value})
    assert said in refused.value.message


def test_stored_filters_are_read_whatever_they_say() -> None:
    """A replay that was started goes on, also if its filter would be refused by now."""
    given = {"status": "any", "event": "task.done", "ids": [1], "event_ids": [EVENT]}
    filters = MessageFilters.stored(given)
    assert MessageFilters.stored(filters.as_json()) == filters
    assert (filters.ids, filters.event_ids) == ((1,), (EVENT,))


def test_ids_of_events_and_numbers_may_be_mixed() -> None:
    """Shows that --id takes both, and that naming messages means those in any state."""
    filters = MessageFilters.of({"ids": ["4711", EVENT]})
    assert (filters.ids, filters.event_ids) == ((4711,), (EVENT,))
    assert filters.for_replay().status == "any"


def test_a_project_with_other_subjects_finds_them_by_their_text() -> None:
    """Where subjects are no UUIDs, any text may be one; a ping's subject is always one."""
    with pytest.raises(InvalidFilter):
        who.read_subject("order-17")
    assert who.read_subject(f"ping-{TASK}") == f"ping-{TASK}"
    with override_settings(WEBHOOKS={}):
        assert who.read_subject("order-17") == "order-17"
        assert kinds("order-17")[0] == Kind.TASK
