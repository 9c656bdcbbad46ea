"""Event times to milliseconds: exact, rounded down, and only for instants that exist."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.times
from schemas.alert import from_ms, rfc3339, to_ms
from schemas.columns import text_array
from schemas.event import RFC3339
from schemas.times import TimeColumn, time_column_ms, usual_times_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True, params=[1, schemas.times.MIN_TIMES])
def min_times(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds for times that are converted together, and for the few that are not."""
    with patch.object(schemas.times, "MIN_TIMES", request.param):
        yield


# One time that the quick conversion refuses sends the whole column the slow way.
UNUSUAL = "2026-01-01t00:00:00z"


@st.composite
def times(draw: st.DrawFn) -> tuple[str, int]:
    """Draw an RFC 3339 time and its milliseconds, computed in integers."""
    minute = draw(st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31, 23, 59, 59)))
    digits = draw(st.text("0123456789", max_size=9))
    offset = draw(st.integers(-(24 * 60 - 1), 24 * 60 - 1))
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    written = (
        minute.strftime("%Y-%m-%dT%H:%M:%S") + (f".{digits}" if digits else "") + (zone if offset else "Z")
    )
    whole = minute.replace(microsecond=0, tzinfo=UTC) - timedelta(minutes=offset) - EPOCH
    return written, whole // timedelta(seconds=1) * 1000 + int((digits + "000")[:3])


@given(times())
def test_a_time_is_converted_exactly(drawn: tuple[str, int]) -> None:
    """Any zone and up to nine digits give the millisecond in which the instant lies."""
    text, expected = drawn
    values, bad = time_column_ms([text])
    assert (values.tolist(), bad) == ([expected], [])


@given(times())
def test_both_conversions_agree(drawn: tuple[str, int]) -> None:
    """Beside an unusual time, which needs the slow conversion, the same number comes out."""
    text, expected = drawn
    values, bad = time_column_ms([UNUSUAL, text, text.replace("T", " "), text.lower()])
    assert (values.tolist()[1:], bad) == ([expected] * 3, [])


def test_what_is_converted_together_was_written_by_the_contract() -> None:
    """It stands for a look at the pattern, so no other character may pass, wherever it is."""
    for whole in ("2026-01-31T19:30:00.123Z", "2199-12-31T23:59:59Z", "1970-01-01T00:00:00.123456789Z"):
        for place in range(len(whole)):
            for character in map(chr, range(128)):
                text = whole[:place] + character + whole[place + 1 :]
                converted = usual_times_ms(TimeColumn(text_array([whole, text])))
                assert converted is None or re.fullmatch(RFC3339, text), text


def test_what_lies_between_milliseconds_is_cut_off() -> None:
    """Rounding is down, before and after 1970 alike: no event is moved into the next millisecond."""
    late = ["2026-01-01T00:00:00.9999Z", "1970-01-01T00:00:00.0009999+01:00"]
    expected = [1767225600999, -3600000]
    assert time_column_ms(late)[0].tolist() == expected
    assert time_column_ms([*late, UNUSUAL])[0].tolist()[:2] == expected


def test_a_leap_second_is_the_second_before() -> None:
    """23:59:60 has no number of its own and counts as 23:59:59, with its fraction."""
    values, bad = time_column_ms(["2016-12-31T23:59:60.250Z", "2016-12-31T23:59:59.250Z"])
    assert bad == []
    assert values[0] == values[1]


def test_days_that_do_not_exist_are_found() -> None:
    """Of every year, month and day up to 31 exactly the impossible ones are named, alone or in company."""
    days = [(y, m, d) for y in range(1970, 2200) for m in range(1, 13) for d in range(28, 32)]

    def exists(year: int, month: int, day: int) -> bool:
        try:
            date(year, month, day)
        except ValueError:
            return False
        return True

    texts = [f"{y}-{m:02}-{d:02}T12:00:00Z" for y, m, d in days]
    impossible = [i for i, day in enumerate(days) if not exists(*day)]
    assert time_column_ms(texts)[1] == impossible
    assert [i for i in impossible if time_column_ms([texts[i]])[1] != [0]] == []
    possible = [text for i, text in enumerate(texts) if i not in set(impossible)]
    assert time_column_ms(possible)[1] == []


def test_no_times_make_an_empty_column() -> None:
    """An empty chunk is no special case."""
    values, bad = time_column_ms([])
    assert (values.tolist(), bad) == ([], [])


@given(st.integers(-(10**12), 10**14))
def test_milliseconds_survive_a_datetime(time_ms: int) -> None:
    """Out to the year 5138, milliseconds become a datetime and text and come back as they were."""
    assert to_ms(from_ms(time_ms)) == time_ms
    assert to_ms(datetime.fromisoformat(rfc3339(from_ms(time_ms)))) == time_ms


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=-7)))))
def test_numbers_and_text_cut_off_alike(value: datetime) -> None:
    """The number and the text of one time name the same millisecond."""
    if value.year > 1:
        assert from_ms(to_ms(value)) == datetime.fromisoformat(rfc3339(value))


def test_a_time_without_zone_is_refused() -> None:
    """A naive datetime would be read in the zone of whatever machine this is."""
    with pytest.raises(TypeError):
        to_ms(datetime(2026, 1, 1))
