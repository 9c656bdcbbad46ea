"""Events that have aged out, but for those of people on legal hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from store.database import Database
from store.ownership import OF_TOPIC
from store.parts import in_parts
from store.people import speaks_of

# An event is as old as the younger of its own time and its arrival, so that an import is kept for as
# long as what arrived beside it.
_AGED: Final = (
    "tenant_id = {tenant_id:String} AND kind = {kind:String} "
    "AND greatest(time, ingest_time) < {cutoff:DateTime64(3)}"
)
_HELD: Final = speaks_of("private_held")
_GROUP: Final = "kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition"
_GROUPS: Final = (
    f"SELECT {_GROUP}, count() AS rows_removed, countIf(flags = 0) AS evaluated_removed "
    f"FROM events WHERE {{condition}} GROUP BY {_GROUP}"
)
# Offset and position in the message as one number. No wider position is stored.
_PLACE: Final = "kafka_offset * 65536 + message_index"
_STRETCHES: Final = (
    f"SELECT {_GROUP}, min({_PLACE}) AS first, max({_PLACE}) AS last "
    f"FROM events WHERE {_AGED} AND NOT {_HELD} GROUP BY {_GROUP}"
)
_IN_STRETCH: Final = (
    f"{_AGED} AND {OF_TOPIC} AND kafka_partition = {{partition:Int32}} "
    f"AND {_PLACE} BETWEEN {{first:Int64}} AND {{last:Int64}}"
)
_KEPT: Final = f"SELECT DISTINCT {_PLACE} AS place FROM events WHERE {_IN_STRETCH} AND {_HELD}"


@dataclass(frozen=True)
class AgedEvents:
    """The events of a tenant and kind that are older than a moment, but for those of people on hold.

    Parameters
    ----------
    held
        As what events hold these people.
    """

    database: Database
    tenant_id: str
    kind: str
    cutoff: datetime
    held: Sequence[str]

    def groups(self) -> list[dict[str, Any]]:
        """Return how many there are, by partition."""
        condition = f"{_AGED} AND NOT {_HELD}" if self.held else _AGED
        return self.database.query(_GROUPS.format(condition=condition), self._bound())

    def delete(self) -> None:
        """Delete them.

        A server keeps what a DELETE says, in its logs and beside the table. So it names no people but the
        events that stay: of those between the first and the last that go, not of what earlier runs left.
        """
        bound = self._bound()
        if not self.held:
            self.database.command(f"DELETE FROM events WHERE {_AGED}", bound)
            return
        for stretch in self.database.query(_STRETCHES, bound):
            self._delete_within(stretch)

    def _delete_within(self, stretch: Mapping[str, Any]) -> None:
        bound = {
            **self._bound(),
            "cluster": stretch["kafka_cluster_id"],
            "topic_id": stretch["kafka_topic_id"],
            "topic": stretch["kafka_topic"],
            "partition": stretch["kafka_partition"],
            "first": stretch["first"],
            "last": stretch["last"],
        }
        kept = self.database.query_columns(_KEPT, bound)["place"]
        del bound["private_held"]
        # Texts of one length are in the order of the numbers.
        for part in in_parts(kept, "{:019}".format):
            self._delete_but(part, {**bound, "last": part[-1]})
            bound["first"] = part[-1] + 1
        self._delete_but([], bound)

    def _delete_but(self, kept: Sequence[int], bound: Mapping[str, Any]) -> None:
        self.database.command(
            f"DELETE FROM events WHERE {_IN_STRETCH} AND {_PLACE} NOT IN {{kept:Array(Int64)}}",
            {**bound, "kept": list(kept)},
        )

    def _bound(self) -> dict[str, Any]:
        bound = {"tenant_id": self.tenant_id, "kind": self.kind, "cutoff": self.cutoff}
        return {**bound, "private_held": list(self.held)} if self.held else bound
