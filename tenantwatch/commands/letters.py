"""What the commands on dead letters share: which ones are meant."""

import re
from typing import Annotated, Any, Final, Literal

import typer

from tenantwatch.commands.output import fail

METAVAR: Final = "TOPIC:PARTITION:OFFSET"
_ID: Final = re.compile(r"([A-Za-z0-9._-]+):([0-9]+):([0-9]+)")


# As in the contract, whose models help would wait for.
Kind = Literal["auth", "access", "request"]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="With this message key only; it need not be a tenant.")
]
OfReason = Annotated[str | None, typer.Option("--reason", help="Of this reason only, e.g. unknown_tenant.")]
OfKind = Annotated[Kind | None, typer.Option("--kind", help="Of this kind only.")]


def letter_id(row: dict[str, Any]) -> str:
    """Return where the message of a row of ``dead_letters`` was, as a person types it."""
    return f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"


def _place(letter: str) -> dict[str, Any]:
    found = _ID.fullmatch(letter)
    if not found:
        raise typer.BadParameter(
            f"{letter!r} is no {METAVAR}; `tenantwatch dead-letters list` shows them, like audit.auth:3:17"
        )
    return {"topic": found[1], "partition": int(found[2]), "offset": int(found[3])}


def checked_ids(value: Any) -> Any:
    """Check one id, or several, as they come from the command line."""
    for letter in [value] if isinstance(value, str) else value or ():
        _place(letter)
    return value


def letter_row(control: Any, letter: str) -> dict[str, Any]:
    """Return the row that an id names, the latest if Kafka was wiped and there are several.

    Raises
    ------
    typer.Exit
        If there is none; that has been printed.
    """
    rows = control.get("/dead-letters", **_place(letter), limit=1)
    if not rows:
        raise fail(f"no dead letter {letter}; `tenantwatch dead-letters list` shows those there are")
    found: dict[str, Any] = rows[0]
    return found
