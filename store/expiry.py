"""What leaves the store of many tenants at once: a statement takes as long for one row as for a thousand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from store.database import Database
from store.parts import in_parts

# A tenant's id, and what is its own: ids need not differ between tenants.
Named = tuple[str, str]
# The condition that something is older than its tenant's moment (`bound_cutoffs`).
BEFORE: Final = (
    "toUnixTimestamp64Milli({age}) "
    "< transform(tenant_id, {{tenant_ids:Array(String)}}, {{cutoffs_ms:Array(Int64)}}, toInt64(0))"
)


def named_parts(named: Iterable[Named]) -> Iterator[list[Named]]:
    """Yield as many as go into one statement.

    A statement names what it deletes: one that looked for it in other tables hung on a server (26.7).
    """
    return in_parts(named, "".join)


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
    for part in named_parts(named):
        database.command(
            f"DELETE FROM {table} WHERE (tenant_id, {column}) IN {{named:Array(Tuple(String, String))}}",
            {"named": part},
        )
