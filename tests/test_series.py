"""Scores of metric series: what they say, the files they come from and go to, and how they are judged."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import settings_env
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from bench.nab import Scored, best_threshold, gains, normalised
from detectors.series import MAX_VALUE, score_series
from detectors.series_past import MAX_ROWS, SHAPE_ROWS, Past
from detectors.series_tail import LEARNED, Tail
from tenantwatch.cli import app

START = datetime(2026, 1, 5)
# Once around the clock, a series is known; then the benign ones below stay under this threshold.
KNOWN = 288
ALARM = 5.5


def every_five_minutes(values: np.ndarray) -> Iterator[tuple[datetime, float]]:
    """Give values their times."""
    return ((START + timedelta(minutes=5 * i), float(value)) for i, value in enumerate(values))


def scores(values: np.ndarray) -> np.ndarray:
    """Score values that come every five minutes."""
    return score_series(every_five_minutes(values))


@pytest.fixture
def daily() -> np.ndarray:
    """Ten days of load: a daily season and noise."""
    rows = np.arange(2_880)
    return 60 + 20 * np.sin(2 * np.pi * rows / 288) + np.random.default_rng(7).normal(0, 2, len(rows))


def test_an_ordinary_season_stays_quiet(daily: np.ndarray) -> None:
    """Neither the day's rise nor noise is an alarm."""
    assert scores(daily)[KNOWN:].max() < ALARM


def test_a_spike_within_the_usual_range_is_found_at_its_hour(daily: np.ndarray) -> None:
    """The day's peak value at night is none of the day's."""
    night = 2_500 // 288 * 288 + 216
    daily[night : night + 3] = 80
    found = scores(daily)
    assert ALARM < found[night : night + 3].max() == found[KNOWN:].max()


def test_a_shift_no_single_value_of_which_is_unusual_is_found(daily: np.ndarray) -> None:
    """Two standard deviations up, for a day."""
    daily[2_500:] += 5
    found = scores(daily)
    assert found[KNOWN:2_500].max() < ALARM < found[2_500:].max()


def test_a_flat_line_where_there_was_a_season_is_found(daily: np.ndarray) -> None:
    """A sensor that hangs, at a value that is not strange at all."""
    daily[2_500:] = 63
    assert scores(daily)[2_500:].max() > ALARM


def test_what_does_not_end_is_told_once(daily: np.ndarray) -> None:
    """A level that stays is one alarm, not one a row."""
    daily[2_500:2_600] += 60
    assert np.count_nonzero(scores(daily)[2_500:2_600]) < 5


def test_a_series_that_never_changes_scores_nothing() -> None:
    """No noise, no surprise, and no division by it."""
    assert not scores(np.full(1_000, 3.0)).any()


def test_scores_are_finite_for_the_largest_values() -> None:
    """Squares of what is let in stay within a float."""
    values = np.zeros(400)
    values[300::2] = MAX_VALUE
    values[301::2] = -MAX_VALUE
    found = scores(values)
    assert np.isfinite(found).all()
    assert found[300] > ALARM


@given(st.lists(st.integers(-1_000, 1_000), min_size=LEARNED + 2, max_size=LEARNED + 60), st.data())
def test_no_score_depends_on_later_rows(values: list[int], data: st.DataObject) -> None:
    """The scores of a series' begin are those of the whole."""
    n = data.draw(st.integers(1, len(values)))
    whole = scores(np.array(values))
    assert scores(np.array(values[:n])).tolist() == whole[:n].tolist()


def test_scores_do_not_depend_on_the_unit(daily: np.ndarray) -> None:
    """Bytes or kibibytes."""
    daily[2_500] = 200
    assert scores(daily * 1_024) == pytest.approx(scores(daily), abs=1e-6)


def test_the_past_is_compared_as_a_plain_loop_would() -> None:
    """Nearest value and nearest shape, against sums written out, beyond the end of what is kept."""
    values = np.random.default_rng(7).normal(size=2 * MAX_ROWS + 60)
    past = Past()
    found = [past.add(value) for value in values.tolist()]
    fade = 1 - 1 / SHAPE_ROWS
    for i in (1, 40, 200, len(values) - 1):
        lags = np.arange(1, min(i, MAX_ROWS) + 1)
        assert found[i][0] == pytest.approx(np.abs(values[i] - values[i - lags]).min())
        if i > SHAPE_ROWS:
            distances = [
                sum(
                    fade**k * (values[i - k] - values[i - k - lag]) ** 2 for k in range(min(i - lag + 1, 900))
                )
                for lag in lags[SHAPE_ROWS - 1 :]
            ]
            assert found[i][1] == pytest.approx(np.sqrt(min(distances)))


def test_a_tail_gives_each_surprise_its_share_of_values() -> None:
    """Of exponential noise, one value in a thousand is as surprising as three decades."""
    tail = Tail()
    values = np.random.default_rng(7).exponential(size=200_000).tolist()
    found = np.array([tail.surprise(value) for value in values])
    assert 0.5 < (found >= 3).mean() * 1_000 < 2


Score = Callable[..., Result]


@pytest.fixture
def score(tmp_path: Path) -> Score:
    """Runs the command in this process."""
    runner = CliRunner(env=settings_env(tmp_path))
    return lambda *arguments: runner.invoke(app, ["score-series", *map(str, arguments)])


def series_file(path: Path, *rows: str, header: str = "timestamp,value") -> Path:
    """Write a series."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_texts_are_kept_and_scores_added(tmp_path: Path, score: Score) -> None:
    """`1.50` stays `1.50`, with a score behind it; one row for each."""
    rows = [f"2026-01-{1 + i // 24:02} {i % 24:02}:00:00,1.50" for i in range(200)]
    rows.append("2026-01-09T08:00:00Z,9e1")
    out = tmp_path / "scored.csv"
    done = score(series_file(tmp_path / "cpu.csv", *rows), "--out", out)
    assert done.exit_code == 0
    header, *lines = out.read_text().splitlines()
    assert header == "timestamp,value,anomaly_score"
    assert [line.rsplit(",", 1)[0] for line in lines] == rows
    assert {line.rsplit(",", 1)[1] for line in lines[:-1]} == {"0.0000"}
    assert float(lines[-1].rsplit(",", 1)[1]) > ALARM


def test_a_folder_keeps_its_layout(tmp_path: Path, score: Score) -> None:
    """Every file below the folder, at the same place below the other; nothing else is touched."""
    series_file(tmp_path / "in/a/cpu.csv", "2026-01-01 00:00:00,1")
    series_file(tmp_path / "in/b/deep/cpu.csv", "2026-01-01 00:00:00,1")
    (tmp_path / "in/notes.txt").write_text("not a series")
    for _ in range(2):
        assert score(tmp_path / "in", "--out", tmp_path / "in/out").exit_code == 0
    written = {str(p.relative_to(tmp_path / "in/out")) for p in (tmp_path / "in/out").rglob("*.*")}
    assert written == {"a/cpu.csv", "b/deep/cpu.csv"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2026-01-01 01:00:00,abc", "value 'abc' is no number"),
        ("2026-01-01 01:00:00,inf", "value 'inf' is not within"),
        ("2026-01-01 01:00:00,1e200", "value '1e200' is not within"),
        ("yesterday,1", "timestamp 'yesterday' is no time"),
        ("2026-01-01 01:00:00", "1 columns; fix: write timestamp,value"),
        ("2026-01-01 01:00:00,1,5", "3 columns; fix: write timestamp,value"),
        ("99999999999999999,1", "timestamp '99999999999999999' is no time"),
    ],
)
def test_a_bad_row_is_told_with_file_and_line(tmp_path: Path, score: Score, row: str, message: str) -> None:
    """Nothing is written of its file; the other files are."""
    bad = series_file(tmp_path / "in/bad.csv", "2026-01-01 00:00:00,1", row)
    series_file(tmp_path / "in/good.csv", "2026-01-01 00:00:00,1")
    done = score(tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert f"{bad}:3: {message}" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.csv"]


def test_another_header_is_told_with_the_right_one(tmp_path: Path, score: Score) -> None:
    """The columns are named, so that they cannot be mixed up."""
    bad = series_file(tmp_path / "bad.csv", "2026-01-01 00:00:00,1", header="when,value")
    done = score(bad, "--out", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert f"{bad}:1: the header is 'when,value'; fix: let it be timestamp,value" in done.stderr


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("timestamp,value,label", "2026-01-01 00:00:00,1.0,x"),
        ("timestamp,value,label", "2026-01-01 00:00:00,1.0"),
        (" Timestamp,VALUE", "2026-01-01 00:00:00,1.0"),
        ("n,value,timestamp", "7,1.0,2026-01-01 00:00:00"),
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, score: Score, header: str, row: str) -> None:
    """In any case and order; others are left out."""
    out = tmp_path / "out.csv"
    assert score(series_file(tmp_path / "cpu.csv", row, header=header), "--out", out).exit_code == 0
    assert out.read_text() == "timestamp,value,anomaly_score\n2026-01-01 00:00:00,1.0,0.0000\n"


@pytest.mark.parametrize("unit", [1, 1_000])
def test_times_may_be_seconds_or_milliseconds_since_1970(tmp_path: Path, score: Score, unit: int) -> None:
    """Their hour is that of UTC; the scores are those of the same times in ISO 8601."""
    values = [20.0 + i % 7 for i in range(400)] + [90.0]
    times = [START + timedelta(minutes=5 * i) for i in range(len(values))]
    iso = [f"{time},{value}" for time, value in zip(times, values, strict=True)]
    epoch = [
        f"{int(time.replace(tzinfo=UTC).timestamp()) * unit},{value}"
        for time, value in zip(times, values, strict=True)
    ]
    found = []
    for name, rows in (("iso", iso), ("epoch", epoch)):
        done = score(series_file(tmp_path / f"{name}.csv", *rows), "--out", tmp_path / f"{name}.out")
        assert done.exit_code == 0
        found.append([line.rsplit(",", 1)[1] for line in (tmp_path / f"{name}.out").read_text().splitlines()])
    assert found[0] == found[1]
    assert float(found[0][-1]) > ALARM


@pytest.mark.parametrize("cell", ["", "NaN", "nan", "null", "N/A", " "])
def test_a_missing_value_scores_nothing_and_teaches_nothing(
    tmp_path: Path, score: Score, daily: np.ndarray, cell: str
) -> None:
    """Its row stays; the other scores are as if it were not there."""
    daily[1_500] = 200
    rows = [f"{time},{value!r}" for time, value in every_five_minutes(daily[:1_600])]
    whole, gaps = tmp_path / "whole.csv", tmp_path / "gaps.csv"
    score(series_file(tmp_path / "a.csv", *rows), "--out", whole)
    with_gap = [*rows[:700], f"2026-01-07 10:17:30,{cell}", *rows[700:]]
    done = score(series_file(tmp_path / "b.csv", *with_gap), "--out", gaps)
    assert (done.exit_code, "b.csv: 1 without value, scored 0" in done.stderr) == (0, True)
    lines = gaps.read_text().splitlines()
    assert lines.pop(701) == f"2026-01-07 10:17:30,{cell},0.0000"
    assert lines == whole.read_text().splitlines()


def test_rows_that_are_not_in_order_are_told(tmp_path: Path, score: Score) -> None:
    """They are scored as they stand, which may not be what was meant."""
    rows = [f"2026-01-01 0{hour}:00:00,1" for hour in (1, 0, 3, 2)]
    done = score(series_file(tmp_path / "cpu.csv", *rows), "--out", tmp_path / "out.csv")
    assert done.exit_code == 0
    assert "cpu.csv: 2 earlier than the row before" in " ".join(done.stderr.split())


def test_an_earlier_output_of_a_file_that_is_now_bad_is_removed(tmp_path: Path, score: Score) -> None:
    """It would pass for the scores of what is there now."""
    source, out = tmp_path / "cpu.csv", tmp_path / "out.csv"
    score(series_file(source, "2026-01-01 00:00:00,1"), "--out", out)
    done = score(series_file(source, "2026-01-01 00:00:00,abc"), "--out", out)
    assert done.exit_code == 1
    assert "of an earlier run is removed" in " ".join(done.stderr.split())
    assert not out.exists()


def test_capital_suffixes_are_csv_too(tmp_path: Path, score: Score) -> None:
    """Windows' programs write them."""
    series_file(tmp_path / "in/CPU.CSV", "2026-01-01 00:00:00,1")
    assert score(tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out/CPU.CSV").exists()


def test_an_output_inside_the_folder_is_not_read_again_however_it_is_named(
    tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One path from the root, the other from here."""
    series_file(tmp_path / "cpu.csv", "2026-01-01 00:00:00,1")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert score(tmp_path, "--out", "out").exit_code == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("out/**/*.*")] == ["out/cpu.csv"]


def test_an_output_with_a_slash_at_its_end_is_a_folder(tmp_path: Path, score: Score) -> None:
    """Also where it is not there yet."""
    source = series_file(tmp_path / "cpu.csv", "2026-01-01 00:00:00,1")
    assert score(source, "--out", f"{tmp_path}/new/").exit_code == 0
    assert (tmp_path / "new/cpu.csv").is_file()


def test_what_is_to_be_scored_is_not_overwritten(tmp_path: Path, score: Score) -> None:
    """A slip of the hand must not cost the data."""
    source = series_file(tmp_path / "cpu.csv", "2026-01-01 00:00:00,1")
    before = source.read_text()
    for out in (source, tmp_path):
        done = score(source, "--out", out)
        assert done.exit_code == 1
        assert "would overwrite" in done.stderr
    assert source.read_text() == before


def judged(found: np.ndarray, windows: list[tuple[int, int]]) -> tuple[float, float]:
    """Return the best threshold of one file, and the score there."""
    file = Scored("", len(found), len(windows), *gains(found, windows))
    threshold = best_threshold([file])
    return threshold, normalised([file], threshold)


def test_whoever_finds_every_window_at_its_first_row_has_100() -> None:
    """The benchmark's perfect detector; and the threshold is what tells its rows from the others."""
    found = np.zeros(1_000)
    found[[400, 700]] = 3.0
    assert judged(found, [(400, 449), (700, 749)]) == (3.0, pytest.approx(100.0))


def test_a_window_found_twice_counts_once_and_by_its_earlier_row() -> None:
    """A later row of the same window earns nothing and costs nothing."""
    found = np.zeros(1_000)
    found[420] = 3.0
    once = judged(found, [(400, 449)])
    found[440] = 3.0
    assert judged(found, [(400, 449)]) == once


def test_a_false_row_costs_less_just_behind_a_window_than_far_from_it() -> None:
    """Far from every window it costs .11 of a window's 2."""
    costs = []
    for row in (300, 455, 900):
        found = np.zeros(1_000)
        found[[400, row]] = 3.0
        costs.append(100 - judged(found, [(400, 449)])[1])
    assert costs == [pytest.approx(5.5), pytest.approx(1.61, abs=0.1), pytest.approx(5.5)]


def test_the_first_rows_do_not_count() -> None:
    """A share of .15 is for learning: nothing found there is false."""
    found = np.zeros(1_000)
    found[:150] = 9.0
    found[400] = 3.0
    assert judged(found, [(400, 449)]) == (3.0, pytest.approx(100.0))
