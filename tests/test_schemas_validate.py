"""`tenantwatch validate`: what a producer learns before anything is sent."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema_examples import any_events, encode, event

from schemas.event import KINDS, MAX_MESSAGE_BYTES, Kind
from schemas.parse import parse
from schemas.validate import Problem, Summary, validate_lines


def check(*values: Any) -> tuple[list[Problem], Summary]:
    """Validate lines given as bytes, or as what is to be their JSON."""
    summary = Summary()
    lines = [(value if isinstance(value, bytes) else encode(value)) + b"\n" for value in values]
    return list(validate_lines(lines, summary)), summary


def test_good_lines_are_counted_by_kind() -> None:
    """Events of every kind may stand in one file, alone or in arrays, with empty lines between."""
    problems, summary = check(event("auth"), [event("access")] * 3, b"", event("request"), event("request"))
    assert problems == []
    assert summary == Summary(lines=4, events={"auth": 1, "access": 3, "request": 2}, errors=0, warnings=0)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_errors_are_those_of_the_pipeline(kind: Kind, data: st.DataObject) -> None:
    """A line has the reason and detail that its dead letter would have."""
    drawn = data.draw(any_events(kind)) | {"kind": kind}
    expected = [(r.reason, r.detail) for r in parse(kind, [encode(drawn)]).rejections]
    errors = [(p.reason, p.detail) for p in check(drawn)[0] if p.severity == "error"]
    assert errors == expected


@pytest.mark.parametrize(
    ("line", "reason", "said"),
    [
        (b"{", "invalid_json", "EOF"),
        (b"[]", "invalid_array", "0 events"),
        (b"5", "invalid_event", "found 5"),
        ([event()] * 1_001, "invalid_array", "1001 events"),
        (event(time="2026-02-30T00:00:00Z"), "invalid_event", "no day or time that exists"),
        (event(x="x" * 1024 * 1024), "too_large", "at most 1048576"),
        (b"[" + b" " * MAX_MESSAGE_BYTES + b"]", "message_too_large", "a message may have 8388608"),
    ],
)
def test_what_is_wrong_with_a_whole_line_is_told(line: Any, reason: str, said: str) -> None:
    """Broken JSON, arrays too short or long, sizes: each is an error of its line, with a fix."""
    problems, summary = check(event(), line, event())
    [problem] = [p for p in problems if p.severity == "error"]
    assert (problem.line, problem.reason) == (2, reason)
    assert said in problem.detail
    assert "; fix: " in problem.detail
    assert (summary.errors, summary.events["auth"]) == (1, 2)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({}, "kind: missing"),
        ({"kind": "login"}, "kind: 'login' is none"),
        ({"kind": [1]}, "kind: [1] is none"),
    ],
)
def test_without_a_kind_the_three_are_named(kind: dict[str, Any], said: str) -> None:
    """An event says itself what kind it is; if it does not, all three words are offered."""
    untold = {name: value for name, value in event().items() if name != "kind"} | kind
    for line, prefix in ((untold, ""), ([untold], "[0].")):
        [problem] = check(line)[0]
        assert problem.severity == "error"
        assert problem.detail == f"{prefix}{said}; fix: send `auth`, `access` or `request`"


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("auth", "sourceIp", "did you mean `source_ip`?"),
        ("auth", "src_ip", "did you mean `source_ip`?"),
        ("auth", "ip", "did you mean `source_ip`?"),
        ("auth", "USER_ID", "did you mean `user_id`?"),
        ("auth", "attribute", "did you mean `attributes`?"),
        ("request", "status", "did you mean `http_status`?"),
        ("auth", "http_status", "it is a field of `request` events"),
        ("request", "action", "it is a field of `auth` and `access` events"),
    ],
)
def test_an_unknown_field_is_a_warning_with_the_nearest_known(kind: Kind, name: str, meant: str) -> None:
    """The field would be kept, but perhaps another was meant: that is said and the event still counts."""
    problems, summary = check(event(kind, **{name: "x"}))
    detail = f"{name}: unknown field, kept under `attributes`; {meant}"
    assert problems == [Problem(1, "warning", "unknown_field", detail)]
    assert (summary.warnings, summary.errors, summary.events[kind]) == (1, 0, 1)


def test_a_field_like_no_other_is_only_named() -> None:
    """Where nothing is near, nothing is guessed."""
    [problem] = check(event(zzz=1))[0]
    assert problem.detail == "zzz: unknown field, kept under `attributes`"


def test_a_misspelling_is_told_once_a_line() -> None:
    """Of an array the first event with the field is named, not a thousand."""
    problems, _ = check([event(), *[event(userid="u")] * 999])
    assert [problem.detail.split(":")[0] for problem in problems] == ["[1].userid"]


def test_events_of_two_tenants_in_a_message_are_an_error() -> None:
    """A message has one key, so its events have one tenant."""
    problems, summary = check([event(), event(), event(tenant_id="tenant-b")])
    assert summary.events["auth"] == 0
    assert [(p.reason, p.detail.split(";")[0]) for p in problems] == [
        ("mixed_tenants", "[2].tenant_id: 'tenant-b' beside 'tenant-a'")
    ]


def test_events_of_two_kinds_in_a_message_are_an_error() -> None:
    """A message goes to one topic, so its events have one kind: the first event's."""
    problems, summary = check([event("access"), event("auth")])
    assert "[1].kind: input should be 'access', found 'auth'" in problems[0].detail
    assert summary.events == {"auth": 0, "access": 1, "request": 0}


def test_problems_come_in_the_order_of_the_lines() -> None:
    """Over many chunks, kinds and severities a reader can follow along the file."""
    kinds = [KINDS[i % 3] for i in range(700)]
    lines = [
        event(kind, userid=1, **({"outcome": "?"} if i % 7 == 0 else {})) for i, kind in enumerate(kinds)
    ]
    problems, summary = check(*lines)
    assert [p.line for p in problems] == sorted([*range(1, 701), *range(1, 701, 7)])
    assert (summary.errors, summary.warnings) == (100, 700)


def test_a_large_file_is_read_in_pieces() -> None:
    """The first problem is known long before the file ends."""
    read = 0

    def lines() -> Iterator[bytes]:
        nonlocal read
        for _ in range(100_000):
            read += 1
            yield b"{}\n"

    next(validate_lines(lines()))
    assert read <= 200


@pytest.mark.parametrize("first", [b"{\n", b"[\n", b"[ \r\n", b"\n{\n", b"[{\n"])
def test_a_pretty_printed_file_is_one_error(first: bytes) -> None:
    """A document over several lines gets one error that says how to convert it, not one for each line."""
    lines = [*first.splitlines(keepends=True), b'  "kind": "auth",\n', b"}\n"]
    [problem] = validate_lines(lines)
    assert "one JSON document over several lines" in problem.detail
    assert "jq -c" in problem.detail


def test_a_byte_order_mark_is_no_fault() -> None:
    """Some editors begin a file with one; it is no part of the first message."""
    assert check(b"\xef\xbb\xbf" + encode(event()))[0] == []
