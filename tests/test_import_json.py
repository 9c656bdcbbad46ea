"""JSON records are read out of whatever holds them together, each as soon as it is whole."""

import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantwatch.importers.importer import Line
from tenantwatch.importers.json_stream import read_json
from tenantwatch.importers.record import Record

RECORDS = [{"n": 1, "text": 'a "{[,\\ \n b'}, {"n": 2, "deep": {"list": [{"x": None}, 1.5, True]}}, {"n": 3}]


def read(*blocks: bytes) -> list[object]:
    """Return records as what they hold, and lines as their text."""
    items = [json.loads(item.text) if isinstance(item, Record) else item.text for item in read_json(blocks)]
    return [item["_source"] if isinstance(item, dict) and "_source" in item else item for item in items]


def layouts() -> dict[str, str]:
    lines = [json.dumps(record) for record in RECORDS]
    return {
        "lines": "\n".join(lines),
        "lines with ends of Windows": "\r\n".join(lines) + "\r\n",
        "array": json.dumps(RECORDS),
        "pretty array": json.dumps(RECORDS, indent=2),
        "pretty objects": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
        "CloudTrail's file": json.dumps({"Records": RECORDS}),
        "Azure's file": json.dumps({"records": RECORDS}),
        "files without ends in a row": "".join(json.dumps({"Records": [record]}) for record in RECORDS),
        "a page of Graph's": json.dumps({"@odata.context": "x", "@odata.nextLink": "y", "value": RECORDS}),
        "the AWS command line's answer": json.dumps({"Events": RECORDS, "NextToken": "x", "n": 3}, indent=4),
        "CloudWatch's message": json.dumps({"owner": "x", "filters": ["y"], "logEvents": RECORDS}),
        "a page of Auth0's": json.dumps({"start": 0, "total": 3, "logs": RECORDS, "length": 3}),
        "a page with no next one": json.dumps({"nextToken": None, "more": False, "Records": RECORDS}),
        "behind what is nested": json.dumps(
            {"meta": {"of": {"n": 1, "names": ["a", "}"]}, "none": {}}, "empty": [], "Records": RECORDS}
        ),
        "Elasticsearch's answer": json.dumps(
            {
                "took": 3,
                "timed_out": False,
                "_shards": {"total": 1, "failed": 0},
                "hits": {
                    "total": {"value": 3, "relation": "eq"},
                    "max_score": None,
                    "hits": [{"_index": "x", "_source": record} for record in RECORDS],
                },
            }
        ),
        "behind a syslog header": "\n".join(f"Jan  5 08:00:00 host app[7]: {line}" for line in lines),
        "behind a time": "\n".join(f"2026-01-05T08:00:00.000Z {line}" for line in lines),
        "with a mark of order": "\ufeff" + "\n".join(lines),
    }


@pytest.mark.parametrize("layout", layouts())
def test_records_are_found_in_any_layout(layout: str) -> None:
    """How an export holds its records together does not matter."""
    assert read(layouts()[layout].encode()) == RECORDS


@pytest.mark.parametrize("layout", layouts())
def test_where_the_bytes_are_cut_does_not_matter(layout: str) -> None:
    """A pipe cuts anywhere, within a name, a number or a character."""
    whole = layouts()[layout].encode()
    assert read(*(whole[i : i + 1] for i in range(len(whole)))) == RECORDS


def test_of_two_arrays_in_an_envelope_both_are_read() -> None:
    """The first is not passed over as something that stands before the second."""
    text = json.dumps({"Records": [{"n": 1}], "n": None, "events": [{"n": 2}]})
    assert read(text.encode()) == [{"n": 1}, {"n": 2}]


def test_a_record_with_a_list_is_no_envelope() -> None:
    """Only an array of objects under a name that vendors give to records makes one."""
    records = [{"id": {"n": 1}, "value": [1, 2]}, {"target": [{"n": 1}]}, {"value": "x", "logs": None}]
    assert read("\n".join(map(json.dumps, records)).encode()) == records


def test_utf16_is_read() -> None:
    """As Windows PowerShell writes files."""
    assert read(json.dumps(RECORDS, indent=2).encode("utf-16")) == RECORDS


def test_a_record_is_there_before_the_next_block() -> None:
    """A live log is not held back."""
    asked = []

    def blocks() -> Iterator[bytes]:
        yield b'{"n": 1}'
        asked.append(True)
        yield b'\n{"n": 2}\n'

    next(read_json(blocks()))
    assert asked == []


@pytest.mark.parametrize(
    "broken",
    [
        "no JSON",
        "2026-01-05 08:00:00,123 INFO [org.example] (main) a=b",
        '{"n": 1, "text": "never closed',
        '{"n": 1, "deep": {"list": [',
        '{"n": }',
        '{"n": 1 "m": 2}',
        "}{{",
        '{"n":' * 100_000,
        '{"hits":' * 100_000,
        '{"n": ' + "9" * 5_000 + "}",
    ],
)
def test_a_broken_line_costs_only_itself(broken: str) -> None:
    """What comes after it is read, and the line is handed out whole, to be reported."""
    found = read(f'{{"n": 0}}\n{broken}\n{{"n": 2}}\n'.encode())
    assert [item for item in found if isinstance(item, dict)] == [{"n": 0}, {"n": 2}]
    assert [item for item in found if isinstance(item, str)] == [broken]


def test_the_end_of_a_file_that_breaks_off_is_handed_out() -> None:
    """A truncated download does not lose its last record in silence."""
    assert read(b'{"n": 1}\n{"n": 2, "text": "ab') == [{"n": 1}, '{"n": 2, "text": "ab']


def test_a_file_of_one_line_needs_no_more_memory_than_a_block() -> None:
    """CloudTrail writes a file as one line, of any length."""

    def blocks() -> Iterator[bytes]:
        yield b'{"Records":['
        for n in range(400):
            yield b",".join(b'{"n": %d, "text": "%s"}' % (n * 100 + i, b"x" * 500) for i in range(100)) + b","
        yield b'{"n": 0}]}'

    tracemalloc.start()
    try:
        count = sum(isinstance(item, Record) for item in read_json(blocks()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 40_001
    assert peak < 2_000_000  # of 20 MB


def test_text_that_never_ends_is_given_up() -> None:
    """A binary file is no record, and is not collected in memory."""
    found = list(read_json(b"\x01{\x02" * 100_000 for _ in range(60)))
    assert found
    assert all(isinstance(item, Line) and len(item.text) < 6_000_000 for item in found)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b'{"a":1}', b"\n", b"[", b"}", b'"', b"{"])))
def test_no_bytes_raise(blocks: list[bytes]) -> None:
    """Whatever is in a file, reading it ends."""
    for item in read_json(blocks):
        assert isinstance(item, Record | Line)


def test_names_are_found_in_any_case_and_flattened() -> None:
    """Shippers change the case of names, nest what was flat and flatten what was nested."""
    values = {"eventtype": "x", "Actor": {"ID": "y"}, "client.ipAddress": "z", "Status": '{"code": 5}'}
    record = Record(values)
    names = ("eventType", "actor.id", "client.ipAddress", "client.absent.deep")
    assert [record.text_of(name) for name in names] == ["x", "y", "z", None]
    assert record.node("status").text_of("code") == "5"
