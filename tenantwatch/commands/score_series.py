"""Scores of metric series in files."""

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
            help="A CSV file with the columns timestamp,value; or a folder, for every .csv below it.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE|DIR",
            help="Where to write; a folder gets the same layout.",
            show_default=False,
        ),
    ],
) -> None:
    """Score each value of a metric series by how surprising it is.

    Writes timestamp,value,anomaly_score. The score is -log10 of a chance, so 6 is about one in a million; it
    is 0 where there is nothing to tell of, and for the first 150 rows. It depends only on rows up to its own,
    and means the same in every file. A file with a bad row is not written, and makes the exit code 1.
    """
    from tenantwatch.series_files import SeriesError, score_file

    pairs = _pairs(source, out)
    rows = faults = 0
    for one, target in pairs:
        try:
            rows += score_file(one, target)
        except (SeriesError, OSError) as error:
            complain(str(error))
            faults += 1
    scored = len(pairs) - faults
    note(f"{rows:,} rows of {scored:,} {'file' if scored == 1 else 'files'} scored")
    if faults:
        raise typer.Exit(1)


def _pairs(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Return which file is scored into which."""
    if source.is_dir():
        # What an earlier run wrote into a folder below is not read again.
        found = sorted(path for path in source.rglob("*.csv") if path.is_file() and out not in path.parents)
        if not found:
            raise fail(f"{source}: no .csv file in it; name the folder that holds them")
        pairs = [(path, out / path.relative_to(source)) for path in found]
    else:
        pairs = [(source, out / source.name if out.is_dir() else out)]
    if any(target.exists() and target.samefile(path) for path, target in pairs):
        raise fail(f"--out {out} would overwrite what is to be scored; name another place")
    return pairs
