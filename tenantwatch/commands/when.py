"""Points in time as a person types them: ``30m``, ``7d``, or a date."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

_AGO: Final = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_when(text: str, now: datetime) -> datetime:
    """Return a time: so long before `now`, or a date or RFC 3339 time, UTC unless it says otherwise.

    Raises
    ------
    ValueError
        If it is neither.

    >>> now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    >>> print(parse_when("90m", now), parse_when("2026-01-30", now))
    2026-01-31 10:30:00+00:00 2026-01-30 00:00:00+00:00
    """
    if ago := _AGO.fullmatch(text.strip().lower()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    parsed = datetime.fromisoformat(text.strip().upper())
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def checked_time(text: str | None) -> str | None:
    """Return what an option that is a time was given, if it is one.

    Raises
    ------
    typer.BadParameter
        If it is none.
    """
    try:
        if text is not None:
            parse_when(text, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time; write 30m, 24h, 7d, or 2026-01-31T09:30:00Z"
        ) from None
    return text


Since = Annotated[
    str | None,
    typer.Option(help="Since then: 30m, 24h, 7d, or 2026-01-31T09:30:00Z.", callback=checked_time),
]
From = Annotated[
    str | None,
    typer.Option("--from", help="Since then: 30m, 24h, 7d, or 2026-01-31T09:30:00Z.", callback=checked_time),
]
To = Annotated[str | None, typer.Option("--to", help="Until then.", callback=checked_time)]
Learn = Annotated[
    str,
    typer.Option(
        help="Of the store: so long before --from the detectors only learn.",
        callback=checked_time,
        metavar="14d",
    ),
]


def as_time(text: str | None) -> datetime | None:
    """Return the time that an option names, if it was given."""
    return None if text is None else parse_when(text, datetime.now(UTC))
