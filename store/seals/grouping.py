"""In which groups verification takes seals and tenants."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from store.seals.chain_check import Chain
from store.seals.comparison import TopicKey
from store.seals.seal import ChainId, Seal

# So many rows are in memory at a time, 24 bytes each, twice.
ROWS_AT_ONCE: Final = 500_000
TENANTS_AT_ONCE: Final = 1_000


def covered_by_topic(found: Iterable[Chain]) -> dict[TopicKey, list[tuple[int, int]]]:
    """Return the offsets that chains cover, by chain and topic."""
    return {
        TopicKey(chain.id, interval.topic_id, interval.topic): covered(chain.good, interval.topic_id)
        for chain in found
        for interval in (chain.good[-1].intervals if chain.good else ())
    }


def covered(seals: Sequence[Seal], topic_id: str) -> list[tuple[int, int]]:
    """Return the offsets of a topic that seals cover, joined where they meet."""
    found: list[tuple[int, int]] = []
    for seal in seals:
        for interval in seal.intervals:
            if interval.topic_id == topic_id and interval.next > interval.first:
                if found and found[-1][1] == interval.first:
                    found[-1] = (found[-1][0], interval.next)
                else:
                    found.append((interval.first, interval.next))
    return found


def by_chain(seals: Iterable[Seal]) -> dict[ChainId, list[Seal]]:
    """Return seals by their chains."""
    found: dict[ChainId, list[Seal]] = {}
    for seal in seals:
        found.setdefault(seal.chain, []).append(seal)
    return found


def packed(tenants: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield tenants in groups whose rows fit into memory; a large one by itself."""
    group: list[str] = []
    rows = 0
    for tenant_id, count in tenants.items():
        if group and (rows + count > 2 * ROWS_AT_ONCE or len(group) >= TENANTS_AT_ONCE):
            yield group
            group, rows = [], 0
        group.append(tenant_id)
        rows += count
    if group:
        yield group
