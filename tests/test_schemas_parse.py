"""From record values to columns: what is stored, what is rejected, and that neighbours never suffer."""

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema_examples import TEXTS, VALUES, any_events, encode, event, valid_events

import schemas.joined
from schemas.event import KINDS, MAX_EVENT_BYTES, MAX_EVENTS_PER_MESSAGE, AuthEvent, Kind
from schemas.parse import Parsed, parse


@pytest.fixture(scope="module", autouse=True, params=[1, schemas.joined.MIN_RECORDS])
def min_records(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds for records that are read together, and for the few that are not."""
    with patch.object(schemas.joined, "MIN_RECORDS", request.param):
        yield


def ids(parsed: Parsed) -> list[str]:
    return list(parsed.batch.columns["event_id"])


def rows(parsed: Parsed) -> list[tuple[Any, ...]]:
    """Everything of a batch but the position in the array."""
    batch = parsed.batch
    # repr, because NaN differs from itself and True equals 1.
    return [
        (repr(row), int(time_ms), int(record))
        for *row, time_ms, record in zip(*batch.columns.values(), batch.time_ms, batch.offset, strict=True)
    ]


def attributes(parsed: Parsed, row: int = 0) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(parsed.batch.columns["attributes"][row])
    return kept


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_event_becomes_a_row(kind: Kind) -> None:
    """Fields become columns, the time becomes milliseconds, the rest is null."""
    parsed = parse(kind, [encode(event(kind))])
    assert parsed.rejections == []
    assert parsed.unknown_fields == {}
    assert {name: column[0] for name, column in parsed.batch.columns.items() if column[0]} == {
        name: value for name, value in event(kind).items() if name not in ("kind", "time")
    }
    assert parsed.batch.time_ms.tolist() == [1769851800123]


def test_nothing_to_parse_is_an_empty_batch() -> None:
    """No records make an empty batch that still has its columns."""
    parsed = parse("auth", [])
    assert len(parsed.batch) == 0
    assert parsed.batch.columns["event_id"] == []


def test_an_array_keeps_the_positions_of_its_events() -> None:
    """Rows of an array carry the record's position and theirs within it."""
    parsed = parse("auth", [encode([event(event_id="a"), event(event_id="b")]), encode(event(event_id="c"))])
    assert ids(parsed) == ["a", "b", "c"]
    assert parsed.batch.offset.tolist() == [0, 0, 1]
    assert parsed.batch.message_index.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, "empty", "no value"),
        (b"", "empty", "no value"),
        (b" \n", "empty", "no value"),
        (b"{", "invalid_json", "EOF"),
        (b"\xff\xfe", "invalid_json", "UTF-8"),
        (b'{"user_id": "\xff"}', "invalid_json", "unicode"),
        (b'{"user_id": "\\ud800"}', "invalid_json", "hex escape"),
        (b"\xef\xbb\xbf{}", "invalid_json", "expected value"),
        (b"[" * 100_000, "invalid_json", "recursion"),
        (b"{} {}", "invalid_json", "trailing"),
        (b"[]", "invalid_array", "0 events"),
        (b"{}", "invalid_event", "event_id: missing"),
        (b"null", "invalid_event", "event: input should be an object, found null"),
        (b"17", "invalid_event", "found 17"),
        (b'"text"', "invalid_event", "found 'text'"),
        (b"[[]]", "invalid_event", "[0]: input should be an object"),
        (encode(event("access")), "invalid_event", "kind: input should be 'auth', found 'access'"),
        (encode(event(time="2026-02-30T00:00:00Z")), "invalid_event", "time: '2026-02-30T00:00:00Z'"),
        (encode(event(user_agent="x" * MAX_EVENT_BYTES)), "too_large", "at most 1048576"),
    ],
)
def test_a_bad_record_is_rejected_with_its_reason(value: bytes | None, reason: str, said: str) -> None:
    """Each kind of fault has its word, and says what was found and how to fix it."""
    parsed = parse("auth", [value])
    assert len(parsed.batch) == 0
    [rejection] = parsed.rejections
    assert (rejection.record, rejection.reason) == (0, reason)
    assert said in rejection.detail
    assert "; fix: " in rejection.detail


def test_a_bad_event_leaves_its_array_alone() -> None:
    """Of an array only the bad events are rejected, by position; the others are stored."""
    good = [event(event_id=name) for name in "abc"]
    parsed = parse("auth", [encode([good[0], event(outcome="?"), good[1], 5, good[2]])])
    assert ids(parsed) == ["a", "b", "c"]
    assert parsed.batch.message_index.tolist() == [0, 2, 4]
    [rejection] = parsed.rejections
    assert rejection.indexes == (1, 3)
    assert "[1].outcome:" in rejection.detail
    assert "[3]: input should be an object" in rejection.detail


def test_a_record_is_rejected_once_whatever_is_wrong_in_it() -> None:
    """A wrong field in one event and an impossible day in another make one rejection, positions in order."""
    array = [event(time="2026-02-30T00:00:00Z"), event(), event(outcome="?"), event(time="2026-13-01")]
    [rejection] = parse("auth", [encode(array)]).rejections
    assert rejection.indexes == (0, 2, 3)


def test_a_long_list_of_faults_is_cut_short() -> None:
    """The detail names five events and counts the rest: it travels in a header."""
    [rejection] = parse("auth", [encode([5] * 1_000)]).rejections
    assert rejection.detail.count("found 5") == 5
    assert rejection.detail.endswith("| and 995 more events")
    assert len(rejection.indexes) == 1_000


def test_order_survives_bad_records_in_every_group() -> None:
    """Rows and rejections keep the order of the records, also where records are looked at one by one."""
    values: list[bytes | None] = [encode(event(event_id=str(i))) for i in range(450)]
    bad = {0: b"{", 3: None, 199: b"[]", 200: encode(event(time="2026-02-30T00:00:00Z")), 449: b"5"}
    for position, value in bad.items():
        values[position] = value
    big = [event(event_id="7", user_agent="x" * 2000)] * 1_000
    values[7] = encode(big)  # over 1 MiB: measured event by event
    parsed = parse("auth", values)
    assert parsed.batch.offset.tolist() == [
        i for i in range(450) if i not in bad for _ in range(1_000 if i == 7 else 1)
    ]
    assert ids(parsed) == [str(i) for i in parsed.batch.offset.tolist()]
    assert [rejection.record for rejection in parsed.rejections] == sorted(bad)


def test_the_largest_event_is_stored() -> None:
    """An event of exactly 1 MiB is stored; one byte more is too large."""
    room = MAX_EVENT_BYTES - len(encode(event(user_agent="")))
    assert len(parse("auth", [encode(event(user_agent="x" * room))]).batch) == 1
    assert parse("auth", [encode(event(user_agent="x" * (room + 1)))]).rejections[0].reason == "too_large"


def test_one_large_event_leaves_its_array_alone() -> None:
    """In a message of several MiB only the event over 1 MiB is rejected."""
    array = [event(event_id="a"), event(user_agent="x" * MAX_EVENT_BYTES), event(event_id="b")]
    parsed = parse("auth", [encode(array)])
    assert ids(parsed) == ["a", "b"]
    assert (parsed.rejections[0].reason, parsed.rejections[0].indexes) == ("too_large", (1,))


def test_an_array_holds_up_to_1000_events() -> None:
    """1,000 events are stored; of 1,001 none is, and all positions are named."""
    full = [event()] * MAX_EVENTS_PER_MESSAGE
    assert len(parse("auth", [encode(full)]).batch) == MAX_EVENTS_PER_MESSAGE
    [rejection] = parse("auth", [encode([*full, event()])]).rejections
    assert rejection.reason == "invalid_array"
    assert len(rejection.indexes) == MAX_EVENTS_PER_MESSAGE + 1


def smuggled() -> dict[str, list[bytes]]:
    one, other, victim = (encode(event(event_id=name)) for name in ("one", "other", "victim"))
    opened = one[:-1]
    return {
        "two events in one record": [one + b"," + other, victim],
        "two lines in one record": [one + b"\n" + other, victim],
        "an array closed and opened": [one + b"],[" + other, victim],
        "a string over two records": [opened + b',"x":"', victim, b'"}'],
        "an object over two records": [opened + b',"x":{"a":1', b'"b":2}}', victim],
        # Joined with brackets and commas these three are two arrays that hold the victim's event.
        "a neighbour swallowed": [
            b"[" + opened + b',"x":[1',
            victim,
            b"[1]]}],[" + other + b"],[" + one + b"]",
        ],
        "an array over two records": [b"[" + one, other + b"]", victim],
    }


@pytest.mark.parametrize("case", smuggled())
def test_no_record_reaches_into_its_neighbour(case: str) -> None:
    """Records that would be JSON only together are rejected, each alone; the one beside them is stored."""
    parsed = parse("auth", smuggled()[case])
    assert ids(parsed) == ["victim"]
    assert parsed.batch.columns["attributes"] == [""]
    assert {rejection.reason for rejection in parsed.rejections} == {"invalid_json"}
    assert len(parsed.rejections) == len(smuggled()[case]) - 1


def test_unknown_fields_are_kept_and_counted() -> None:
    """A field that the contract does not know is kept under attributes, whatever its type."""
    values = [encode(event(shoe_size=43)), encode([event(shoe_size={"eu": [43]}, attributes={"a": 1})])]
    parsed = parse("auth", values)
    assert parsed.unknown_fields == {"shoe_size": 2}
    assert attributes(parsed, 0) == {"shoe_size": 43}
    assert attributes(parsed, 1) == {"a": 1, "shoe_size": {"eu": [43]}}


def test_an_unknown_field_never_replaces_an_attribute() -> None:
    """Where the name is taken it is kept under another, also where that is taken too."""
    parsed = parse("auth", [encode(event(attributes={"x": 1, "unknown.x": 2}, x=3))])
    assert sorted(attributes(parsed).values()) == [1, 2, 3]
    assert attributes(parsed)["x"] == 1
    assert parsed.unknown_fields == {"x": 1}


@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.dictionaries(TEXTS, st.integers(), max_size=4))
def test_no_unknown_value_is_lost(unknown: dict[str, Any], known: dict[str, int]) -> None:
    """As many values are kept as were sent, whatever the names."""
    unknown = {name: value for name, value in unknown.items() if name not in AuthEvent.model_fields}
    clash = {name: 0 for name in unknown if name.isascii()} | {f"unknown.{name}": 1 for name in unknown}
    sent = known | clash
    parsed = parse("auth", [encode(event(attributes=sent, **unknown))])
    kept = attributes(parsed) if sent or unknown else {}
    assert len(kept) == len(sent) + len(unknown)
    assert {name: kept[name] for name in sent} == sent


def test_unknown_fields_do_not_count_towards_the_limit_of_attributes() -> None:
    """A newer producer is not cut off by having many new fields."""
    many: dict[str, Any] = {f"field_{i}": "x" * 100 for i in range(200)}
    parsed = parse("auth", [encode(event(**many))])
    assert attributes(parsed) == many


def test_attributes_are_json_even_if_nan_was_sent() -> None:
    """NaN and Infinity, which some JSON libraries write, are kept as words: the column stays JSON."""
    parsed = parse("auth", [encode(event(attributes={"a": float("nan")}, b=float("inf")))])
    text = parsed.batch.columns["attributes"][0]
    assert json.loads(text, parse_constant=pytest.fail) == {"a": "NaN", "b": "Infinity"}


def test_text_of_any_script_is_kept() -> None:
    """Escaped or not, characters outside ASCII arrive as they were meant."""
    name = "Zoë 🙂 \u0000 \u2028"
    escaped, plain = encode(event(user_id=name)), json.dumps(event(user_id=name), ensure_ascii=False).encode()
    assert parse("auth", [escaped, plain]).batch.columns["user_id"] == [name, name]


def careful(kind: Kind, values: list[bytes]) -> Parsed:
    """Parse the values so that each is looked at event by event: each in an array beside a bad event."""
    return parse(kind, [b"[" + value + b",null]" for value in values])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_both_ways_make_the_same_batch(kind: Kind, data: st.DataObject) -> None:
    """Valid events give the same rows parsed whole or event by event, alone or in an array."""
    values = [encode(drawn) for drawn in data.draw(st.lists(valid_events(kind), max_size=4))]
    quick, slow = parse(kind, values), careful(kind, values)
    assert quick.rejections == []
    assert rows(quick) == rows(slow) == rows(parse(kind, [b"[" + value + b"]" for value in values]))
    assert quick.unknown_fields == slow.unknown_fields


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_both_ways_reject_the_same_events(kind: Kind, data: st.DataObject) -> None:
    """An event in which anything may be wrong has the same fate, and the same detail, either way."""
    value = encode(data.draw(any_events(kind)))
    quick, slow = parse(kind, [value]), careful(kind, [value])
    assert rows(quick) == rows(slow)
    details = [rejection.detail for rejection in quick.rejections]
    first = slow.rejections[0].detail.split(" | [1]: ")[0].replace("[0].", "").replace("[0]:", "event:")
    assert details == ([first] if details else [])
    assert (slow.rejections[0].indexes == (0, 1)) == bool(details)


@pytest.mark.parametrize(
    ("field", "sent", "kept"),
    [
        ("http_status", "200", 200),
        ("http_status", 200.0, 200),
        ("bytes_in", "17", 17),
        ("bytes_in", True, 1),
        ("duration_ms", "1.5", 1.5),
        ("duration_ms", 2, 2.0),
    ],
)
def test_numbers_sent_as_text_are_understood_either_way(field: str, sent: Any, kept: float) -> None:
    """A log shipper that quotes its numbers is understood, and by both ways alike."""
    value = encode(event("request", **{field: sent}))
    for parsed in (parse("request", [value]), careful("request", [value])):
        [found] = parsed.batch.columns[field]
        assert (type(found), found) == (type(kept), kept)


def test_the_last_of_repeated_fields_counts_either_way() -> None:
    """JSON allows a key twice; the last one counts, as in most readers, whichever way is taken."""
    twice = encode(event(user_id="last", x=2)).replace(b"{", b'{"user_id":5,"outcome":"?","x":1,', 1)
    for parsed in (parse("auth", [twice]), careful("auth", [twice])):
        assert parsed.batch.columns["user_id"] == ["last"]
        assert attributes(parsed) == {"x": 2}
