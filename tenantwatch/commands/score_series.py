"""Scores of metric series in files."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tenantwatch.commands.output import complain, fail, note


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(score_series)


def score_series(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            exists=True,
            help="A CSV file with the columns timestamp and value; or a folder, for every .csv below it.",
            show_default=False,
        ),
    ],
    out: Annotated[
        # As it was typed: a path forgets the slash at its end.
        str,
        typer.Option(
            "--out",
            metavar="FILE|DIR",
            help="Where to write; a folder (there, or with / at its end) gets the same layout.",
            show_default=False,
        ),
    ],
) -> None:
    """Score each value of a metric series by how surprising it is.

    Writes timestamp,value,anomaly_score. The score is -log10 of a chance, so 6 is about one in a million; it
    is 0 where there is nothing to tell of, and for the first 150 rows. It depends only on rows up to its own,
    and means the same in every file. Times are ISO 8601, or seconds or milliseconds since 1970; rows count in
    the order in which they stand. A row without value (empty, NaN, null) has the score 0, and nothing is
    learnt from it. A file with a bad row makes the exit code 1; it is not written, and its earlier output is
    removed.
    """
    from tenantwatch.series_files import SeriesError, score_file

    pairs = _pairs(source, out)
    rows = faults = 0
    for one, target in pairs:
        try:
            scored_file = score_file(one, target)
        except (SeriesError, OSError) as error:
            complain(str(error))
            faults += 1
            if isinstance(error, SeriesError):
                _remove_earlier(target)
            continue
        rows += scored_file.rows
        if scored_file.missing:
            note(f"{one}: {scored_file.missing:,} without value, scored 0")
        if scored_file.out_of_order:
            note(
                f"{one}: {scored_file.out_of_order:,} earlier than the row before; rows are scored as "
                "they stand: sort the file by time if that is wrong",
                "yellow",
            )
    scored = len(pairs) - faults
    note(f"{rows:,} rows of {scored:,} {'file' if scored == 1 else 'files'} scored")
    if faults:
        raise typer.Exit(1)


def _remove_earlier(target: Path) -> None:
    """Remove what an earlier run wrote, which would pass for the scores of what is there now."""
    try:
        if target.is_file():
            target.unlink()
            complain(f"{target} of an earlier run is removed")
    except OSError as error:
        complain(f"{target} of an earlier run could not be removed: {error}")


def _pairs(source: Path, to: str) -> list[tuple[Path, Path]]:
    """Return which file is scored into which."""
    out = Path(to)
    if source.is_dir():
        # What an earlier run wrote into a folder below is not read again.
        inside = out.resolve()
        found = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() == ".csv" and path.is_file() and inside not in path.resolve().parents
        )
        if not found:
            raise fail(f"{source}: no .csv file in it; name the folder that holds them")
        pairs = [(path, out / path.relative_to(source)) for path in found]
    else:
        in_folder = out.is_dir() or to.endswith(("/", os.sep))
        pairs = [(source, out / source.name if in_folder else out)]
    if any(target.exists() and target.samefile(path) for path, target in pairs):
        raise fail(f"--out {to} would overwrite what is to be scored; name another place")
    return pairs
