"""Any table in CSV becomes events of any kind, as a map says."""

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.event import Kind
from tenantwatch.importers.csv_map import MapError, parse_map
from tenantwatch.importers.csv_rows import CsvReader, read_rows
from tenantwatch.importers.importer import Tenancy
from tests.importing import TENANT, Made, only, picked, run

TABLE = ["When,User,IP,Result,Note", "2026-01-05 08:00:00,ana,192.0.2.1,OK,first"]
MAPS = ["time=When", "user_id=User", "source_ip=IP", "outcome=Result", "action=:login"]


def read(
    lines: list[str], maps: list[str], kind: Kind = "auth", zone: Any = UTC, tenancy: Tenancy = TENANT
) -> Made:
    header, rows = read_rows(lines)
    return run(CsvReader(parse_map(maps, kind, header), kind, zone).read, rows, tenancy)


def mapped(header: str, cells: str, *maps: str, kind: Kind = "auth") -> dict[str, Any]:
    return only(read([header, cells], [*maps], kind))


def refused(*maps: str, kind: Kind = "auth", header: str = TABLE[0]) -> str:
    with pytest.raises(MapError) as error:
        parse_map(maps, kind, header.split(",") if header else [])
    return str(error.value)


def why(header: str, cells: str, *maps: str, kind: Kind = "auth") -> str:
    events, report = read([header, cells], [*maps], kind)
    assert events == []
    return "\n".join(report.lines())


def test_a_row_is_an_event() -> None:
    """Columns that are not mapped are left out."""
    event = dict(only(read(TABLE, MAPS)))
    assert event.pop("event_id")
    assert event == {
        "kind": "auth",
        "tenant_id": "tenant-a",
        "service": "test",
        "time": "2026-01-05T08:00:00.000Z",
        "user_id": "ana",
        "source_ip": "192.0.2.1",
        "outcome": "success",
        "action": "login",
    }


def test_accesses_and_requests_are_mapped_alike() -> None:
    """A request's outcome follows from its status."""
    access = mapped("t,what,n", "2026-01-05T08:00Z,READ,7", "time=t", "action=what", "outcome=:success",
                    "record_count=n", kind="access")  # fmt: skip
    assert picked(access, "action", "record_count") == ("read", 7)
    request = mapped(
        "t,s,ms", "1767600000,404,1.5", "time=t", "http_status=s", "duration_ms=ms", kind="request"
    )
    assert picked(request, "outcome", "http_status", "duration_ms") == ("failure", 404, 1.5)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("2026-01-05T08:00:00+00:00", ""),
        ("2026-01-05 08:00", ""),
        ("1767600000", ""),
        ("1767600000000", ":epoch"),
        ("05.01.2026 08:00:00", ":%d.%m.%Y %H:%M:%S"),
        ("Jan 5 2026 9:00AM +0100", ":%b %d %Y %I:%M%p %z"),
    ],
)
def test_times_are_read_as_the_map_says(cell: str, said: str) -> None:
    """Usual forms need no format."""
    event = mapped("When", cell, f"time=When{said}", "action=:login", "outcome=:success")
    assert event["time"] == "2026-01-05T08:00:00.000Z"


def test_a_time_without_zone_is_of_the_tables() -> None:
    """Tables are written in local time."""
    assert only(read(TABLE, MAPS, zone=ZoneInfo("Europe/Berlin")))["time"] == "2026-01-05T07:00:00.000Z"


def test_a_time_that_cannot_be_read_is_told_with_the_way_out() -> None:
    """What was found, what was expected, and how to say it."""
    said = why("When", "31/12/99", "time=When", "action=:login", "outcome=:success")
    assert "time is '31/12/99', which is not ISO 8601 or seconds since 1970" in said
    assert "--map 'time=When:%d.%m.%Y %H:%M:%S'" in said


@pytest.mark.parametrize(
    ("cell", "outcome"), [("OK", "success"), ("TRUE", "success"), ("denied", "failure"), ("0", "failure")]
)
def test_usual_words_for_outcomes_are_known(cell: str, outcome: str) -> None:
    """In any case."""
    assert (
        mapped("t,r", f"2026-01-05,{cell}", "time=t:%Y-%m-%d", "outcome=r", "action=:login")["outcome"]
        == outcome
    )


def test_words_are_translated() -> None:
    """A star stands for all others; a word that is not listed stays as it is."""
    maps = ["time=t", "outcome=code:0=success,*=failure", "reason=code:1326=bad_password", "action=:login"]
    events, _ = read(["t,code", "2026-01-05 08:00,0", "2026-01-05 08:00,1326", "2026-01-05 08:00,99"], maps)
    assert [picked(event, "outcome", "reason") for event in events] == [
        ("success", "0"),
        ("failure", "bad_password"),
        ("failure", "99"),
    ]


def test_an_unknown_outcome_is_not_guessed() -> None:
    """A row more or less among failures would be an error that nobody sees."""
    assert "outcome is 'perhaps'" in why(
        "t,r", "2026-01-05 08:00,perhaps", "time=t", "outcome=r", "action=:login"
    )


def test_reasons_become_the_contracts() -> None:
    """Detectors know one word for an unknown user."""
    event = mapped(
        "t,r", "2026-01-05 08:00,User not found", "time=t", "reason=r", "outcome=:failure", "action=:login"
    )
    assert event["reason"] == "unknown_user"


def test_other_columns_can_be_kept() -> None:
    """As attributes; a host name where an address was expected is kept as one too."""
    event = only(read([TABLE[0], TABLE[1].replace("192.0.2.1", "pc-1")], [*MAPS, "attributes.note=Note"]))
    assert event["attributes"] == {"source_host": "pc-1", "note": "first"}


@pytest.mark.parametrize("cell", ["", "-", "NULL", "n/a"])
def test_an_empty_cell_is_an_absent_field(cell: str) -> None:
    """However the table writes it."""
    assert only(read([TABLE[0], TABLE[1].replace("ana", cell)], MAPS))["user_id"] is None


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("When;User;IP;Result", "2026-01-05 08:00;ana;192.0.2.1;OK"),
        ("When\tUser\tIP\tResult", "2026-01-05 08:00\tana\t192.0.2.1\tOK"),
        ('\ufeff"When","User","IP","Result"', '"2026-01-05 08:00","ana","192.0.2.1","OK"'),
    ],
)
def test_the_delimiter_is_found(header: str, row: str) -> None:
    """In the first line, which may have a mark of order and quotes."""
    assert only(read([header, row], MAPS))["user_id"] == "ana"


def test_a_cell_may_have_lines() -> None:
    """In quotes, as spreadsheets write notes."""
    event = only(
        read([TABLE[0], '2026-01-05 08:00,ana,192.0.2.1,OK,"two', 'lines"'], [*MAPS, "attributes.note=Note"])
    )
    assert event["attributes"]["note"] == "two\nlines"


ROWS = [f"2026-01-05 08:00:0{n},u{n},192.0.2.1,OK,{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("at", "broken", "following"),
    [
        (1, '2026-01-05 08:00:01,"u1,192.0.2.1,OK,1', ROWS[2]),
        (1, '2026-01-05 08:00:01,"u1,192.0.2.1,OK,1', '2026-01-05 08:00:02,"u2",192.0.2.1,OK,2'),
        (4, '2026-01-05 08:00:04,u4,192.0.2.1,OK,"4', None),
    ],
)
def test_a_quote_that_is_not_closed_costs_one_line(at: int, broken: str, following: str | None) -> None:
    """Each line behind it is a row again, and all are counted."""
    lines = [*ROWS[:at], broken, *ROWS[at + 1 :]]
    if following:
        lines[at + 1] = following
    events, report = read([TABLE[0], *lines], MAPS)
    assert [event["user_id"] for event in events] == [f"u{n}" for n in range(5) if n != at]
    assert (report.read, report.not_understood) == (5, 1)
    assert f"a quote is not closed: {broken!r}" in "\n".join(report.lines())


def test_a_quote_that_is_not_closed_in_a_long_table_costs_one_line() -> None:
    """What was read ahead in search of its end is read again, however many there are."""
    lines = [f"2026-01-05 08:00:00,u{n},192.0.2.1,OK," for n in range(1_000)]
    broken = [3, 500, 501, 999]
    for n in broken:
        lines[n] = lines[n].replace("u", '"u')
    events, report = read([TABLE[0], *lines], MAPS)
    assert [event["user_id"] for event in events] == [f"u{n}" for n in range(1_000) if n not in broken]
    assert (report.read, report.not_understood) == (1_000, len(broken))


def test_a_quote_within_a_cell_is_part_of_it() -> None:
    """Programs that quote nothing write inches so."""
    event = only(read([TABLE[0], '2026-01-05 08:00,ana,192.0.2.1,OK,"5" disk'], [*MAPS, "attributes.n=Note"]))
    assert event["attributes"]["n"] == "5 disk"


def test_a_column_may_have_a_colon() -> None:
    """The longest name that is there is the column, what follows the format."""
    event = mapped("time:utc,ok", "05.01.2026,y", "time=time:utc:%d.%m.%Y", "outcome=ok", "action=:login")
    assert event["time"] == "2026-01-05T00:00:00.000Z"


def test_a_row_of_another_length_is_told() -> None:
    """One that is short lacks fields, one that is long has its cells in the wrong columns."""
    events, report = read([*TABLE, "2026-01-05 08:00,ana,192.0.2.1,OK,a,b", "2026-01-05 08:00,bob"], MAPS)
    assert len(events) == 1
    assert "has 6 cells, the header 5" in "\n".join(report.lines())
    assert "outcome is empty" in "\n".join(report.lines())


def test_the_tenant_may_be_a_column() -> None:
    """A row whose cell cannot be a tenant's id is told."""
    table = ["When,Customer", "2026-01-05 08:00,tenant-b", "2026-01-05 08:00,two words", "2026-01-05 08:00,"]
    maps = ["time=When", "action=:login", "outcome=:success"]
    events, report = read(table, maps, tenancy=Tenancy("tenant-a", "Customer"))
    assert [event["tenant_id"] for event in events] == ["tenant-b", "tenant-a"]
    assert "Customer is 'two words', which is no tenant_id" in "\n".join(report.lines())


def test_a_given_id_is_the_events() -> None:
    """Else it is made of the row and how often it came before."""
    assert only(read(TABLE, [*MAPS, "event_id=Note"]))["event_id"] == "first"
    events, _ = read([*TABLE, TABLE[1]], MAPS)
    assert len({event["event_id"] for event in events}) == 2


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (["usr_id=User"], "usr_id is no field of auth events; did you mean user_id?"),
        (["http_path=User"], "http_path is no field of auth events"),
        (["user_id=Usr"], "there is no column 'Usr'; did you mean User?; the columns are When, User"),
        (["user_id"], "'user_id' is no mapping; write FIELD=COLUMN"),
        (["user_id=User", "user_id=IP"], "user_id is mapped twice"),
        (["tenant_id=User"], "use --tenant or --tenant-from"),
        (["kind=User"], "use --kind"),
        (["time=When:dd.mm.yyyy"], "'dd.mm.yyyy' is no format of times"),
        (["outcome=Result:OK"], "'OK' of outcome is no pair"),
        (["outcome=:perhaps"], "outcome is 'perhaps'"),
        (["time=:2026-01-05"], "time cannot be the same for every row"),
        (["time=When"], "missing: outcome (--map outcome=COLUMN or outcome=:success), action"),
        (["outcome=Result", "action=:login"], "missing: time (--map time=COLUMN)"),
    ],
)
def test_a_wrong_map_is_refused_with_the_way_out(maps: list[str], said: str) -> None:
    """Before a row is read."""
    assert said in refused(*maps)


def test_a_value_that_the_contract_refuses_is_told() -> None:
    """With the field, and nothing is written that the pipeline would reject."""
    said = why("t,s", "2026-01-05 08:00,999", "time=t", "http_status=s", kind="request")
    assert "found 999" in said
    said = why("t,s", "2026-01-05 08:00,many", "time=t", "http_status=s", kind="request")
    assert "http_status is 'many', which is no number" in said


def test_an_empty_file_has_no_columns() -> None:
    """And the message says so."""
    header, rows = read_rows([])
    assert (header, list(rows)) == ([], [])
    assert "the file has no columns" in refused("time=When", header="")
