"""What leaves the store of many tenants at once: a statement takes as long for one row as for a thousand."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from store.database import Database

# A tenant's id, and what is its own: ids need not differ between tenants.
Named = tuple[str, str]
# A statement names what it deletes: one that looked for it in other tables hung on a server (26.7). The names
# go by HTTP in one field, of which a server takes 128 KiB.
AT_ONCE: Final = 500
# The condition that something is older than its tenant's moment (`bound_cutoffs`).
BEFORE: Final = (
    "toUnixTimestamp64Milli({age}) "
    "< transform(tenant_id, {{tenant_ids:Array(String)}}, {{cutoffs_ms:Array(Int64)}}, toInt64(0))"
)

T = TypeVar("T")


def parts(named: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield as many as go into one statement."""
    for first in range(0, len(named), AT_ONCE):
        yield named[first : first + AT_ONCE]


def bound_cutoffs(tenant_ids: Sequence[str], cutoffs: Mapping[str, datetime]) -> dict[str, Any]:
    """Return the parameters of `BEFORE`."""
    cutoffs_ms = [round(cutoffs[tenant_id].timestamp() * 1000) for tenant_id in tenant_ids]
    return {"tenant_ids": list(tenant_ids), "cutoffs_ms": cutoffs_ms}


def delete_named(database: Database, table: str, column: str, named: Sequence[Named]) -> None:
    """Delete the rows of tenants by their ids.

    Parameters
    ----------
    column
        Holds the id.
    """
    for part in parts(named):
        database.command(
            f"DELETE FROM {table} WHERE (tenant_id, {column}) IN {{named:Array(Tuple(String, String))}}",
            {"named": list(part)},
        )
