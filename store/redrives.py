"""Which dead letters were sent again, so that nobody sends one twice by accident."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from store.database import Database

RedriveStatus = Literal["sending", "sent", "failed"]
IDENTITY: Final = ("kafka_cluster_id", "kafka_topic_id", "kafka_topic", "kafka_partition", "kafka_offset")
_COLUMNS: Final = ("tenant_id", *IDENTITY)
Letter = Mapping[str, Any]


def claim(database: Database, letters: Sequence[Letter], *, again: bool = False) -> list[Letter]:
    """Note that letters are about to be sent again, and return those that nobody else has claimed or sent.

    A letter stays `sending` if whoever claimed it is killed: nobody can tell then whether it was sent.

    Parameters
    ----------
    letters
        Rows of ``dead_letters``.
    again
        Claim them all.
    """
    taken = set() if again else _taken(database, letters)
    claimed = [letter for letter in letters if _identity(letter) not in taken]
    record(database, claimed, "sending")
    return claimed


def record(database: Database, letters: Sequence[Letter], status: RedriveStatus) -> None:
    """Note what became of claimed letters."""
    now = datetime.now(UTC)
    database.insert_rows(
        "redrives",
        [
            {**{name: letter[name] for name in _COLUMNS}, "status": status, "changed_at": now}
            for letter in letters
        ],
    )


def _identity(letter: Letter) -> tuple[Any, ...]:
    return tuple(letter[name] for name in IDENTITY)


def _taken(database: Database, letters: Sequence[Letter]) -> set[tuple[Any, ...]]:
    if not letters:
        return set()
    rows = database.query(
        f"SELECT {', '.join(IDENTITY)} FROM redrives FINAL "
        "WHERE tenant_id IN {tenants:Array(String)} AND kafka_offset IN {offsets:Array(Int64)} "
        "AND status != 'failed'",
        {
            "tenants": sorted({letter["tenant_id"] for letter in letters}),
            "offsets": sorted({letter["kafka_offset"] for letter in letters}),
        },
    )
    return {_identity(row) for row in rows}
