"""What verification finds, each with the rows or the interval that it is about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from store.seals.seal import ChainId, place

Kind = Literal[
    "altered", "removed", "inserted", "reordered", "duplicated", "forked", "seal_missing", "seal_broken",
    "bad_signature", "unknown_key", "expired", "shredded", "unsealed",
]  # fmt: skip
# These are no tampering: the tenant's own setting, a person's right, and what is younger than the last seal.
EXPLAINED: Final[frozenset[Kind]] = frozenset({"expired", "shredded", "unsealed"})
PLACES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that verification has to say.

    Parameters
    ----------
    kind
        What; those in `EXPLAINED` are no tampering.
    tenant_id, cluster_id, partition
        Of which chain; ``tenant_id`` ``''`` is the partition's own.
    topic
        Of the rows, where it is about rows.
    rows
        How many.
    places
        Offset and position in the message's array of the first 20.
    sequences
        Of the seals that it is about.
    detail
        In words.
    """

    kind: Kind
    tenant_id: str
    cluster_id: str
    partition: int
    detail: str
    topic: str = ""
    rows: int = 0
    places: list[dict[str, Any]] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    @property
    def is_tampering(self) -> bool:
        """Whether nothing but tampering, or a defect, explains it."""
        return self.kind not in EXPLAINED


def about_chain(kind: Kind, chain: ChainId, detail: str, sequences: Iterable[int] = ()) -> Finding:
    """Return a finding about seals."""
    return Finding(
        kind, chain.tenant_id, chain.cluster_id, chain.partition, detail, sequences=sorted(sequences)
    )


def about_rows(kind: Kind, chain: ChainId, topic: str, ids: Sequence[int], detail: str) -> Finding:
    """Return a finding about rows of one topic."""
    shown = sorted(ids)[:PLACES_SHOWN]
    return Finding(
        kind, chain.tenant_id, chain.cluster_id, chain.partition, detail, topic, len(ids),
        [place(identity) for identity in shown],
    )  # fmt: skip
