"""Are the rows those that were sealed? Pure: columns in, findings out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from schemas.batch import Bools, Int64s
from schemas.event import INDEX_BITS
from store.seals.findings import Finding, about_rows
from store.seals.seal import ChainId, Interval, Leaves, Rows, Seal, place
from store.seals.statements import Stated


class TopicKey(NamedTuple):
    """Rows of one chain and topic; with the topic's name, or a row under another name would pass for it."""

    chain: ChainId
    topic_id: str
    topic: str


@dataclass(frozen=True, slots=True)
class Stored:
    """Rows as they are in the store, by identity ascending.

    Parameters
    ----------
    ids, leaves
        ``(n,)``.
    ingest_ms
        ``(n,)``; None where nobody asked for it.
    """

    ids: Int64s
    leaves: Leaves
    ingest_ms: Int64s | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """Rows as they were sealed, by identity ascending, and which offsets seals cover.

    Parameters
    ----------
    ids, aged_ms, leaves
        ``(n,)``.
    covered
        Of which rows must be among them.
    """

    ids: Int64s
    aged_ms: Int64s
    leaves: Leaves
    covered: list[tuple[int, int]]


def sealed_rows(seals: Sequence[tuple[Seal, Rows]]) -> dict[TopicKey, Sealed]:
    """Return what seals hold, by chain and topic; those of a chain are in their order."""
    parts: dict[TopicKey, list[tuple[Interval, Rows]]] = {}
    for seal, rows in seals:
        at = 0
        for interval in seal.intervals:
            part = slice(at, at + interval.rows)
            at += interval.rows
            if interval.next > interval.first:
                chosen = Rows(rows.ids[part], rows.aged_ms[part], rows.leaves[part])
                parts.setdefault(TopicKey(seal.chain, interval.topic_id, interval.topic), []).append(
                    (interval, chosen)
                )
    return {key: _joined(found) for key, found in parts.items()}


def _joined(parts: Sequence[tuple[Interval, Rows]]) -> Sealed:
    covered: list[tuple[int, int]] = []
    for interval, _ in parts:
        if covered and covered[-1][1] == interval.first:
            covered[-1] = (covered[-1][0], interval.next)
        else:
            covered.append((interval.first, interval.next))
    columns = [
        np.concatenate(arrays)
        for arrays in zip(*((r.ids, r.aged_ms, r.leaves) for _, r in parts), strict=True)
    ]
    return Sealed(columns[0], columns[1], columns[2], covered)


def within(ids: Int64s, intervals: Iterable[tuple[int, int]]) -> Bools:
    """Return ``(n,)`` whether offsets lie in any of some intervals."""
    offsets = ids >> INDEX_BITS
    found = np.zeros(len(ids), bool)
    for first, end in intervals:
        found |= (offsets >= first) & (offsets < end)
    return found


class _Row(NamedTuple):
    key: TopicKey
    id: int
    leaf: bytes


class _Missed(NamedTuple):
    key: TopicKey
    id: int
    leaf: bytes
    aged_ms: int


def compare(
    tenant_id: str, sealed: Mapping[TopicKey, Sealed], stored: Mapping[TopicKey, Stored], stated: Stated
) -> list[Finding]:
    """Return how a tenant's rows differ from what was sealed, in the offsets that seals cover.

    A row that has another's place is ``reordered``, one that is there a second time ``duplicated``, one whose
    place is right and content is not ``altered``; what then has no counterpart was ``inserted`` or
    ``removed``, or has ``expired``, which a signed statement must say.
    """
    extra: list[_Row] = []
    missed: list[_Missed] = []
    for key, before in sealed.items():
        now = stored.get(key)
        if now is not None and _equal(before, now):
            continue
        _differ(key, before, now, extra, missed)
    if not extra and not missed:
        return []
    return _classified(tenant_id, extra, missed, sealed, stated)


def _equal(before: Sealed, now: Stored) -> bool:
    return (
        len(before.ids) == len(now.ids)
        and bool((before.ids == now.ids).all())
        and bool((before.leaves == now.leaves).all())
    )


def _differ(
    key: TopicKey, before: Sealed, now: Stored | None, extra: list[_Row], missed: list[_Missed]
) -> None:
    """Add what is there and was not sealed so, and what was sealed and is not there so."""
    if now is None:
        ids, leaves = before.ids[:0], before.leaves[:0]
    else:
        inside = within(now.ids, before.covered)
        ids, leaves = now.ids[inside], now.leaves[inside]
    at = np.minimum(np.searchsorted(before.ids, ids), max(len(before.ids) - 1, 0))
    right = np.zeros(len(ids), bool)
    if len(before.ids):
        right = (before.ids[at] == ids) & (before.leaves[at] == leaves)
    found = np.zeros(len(before.ids), bool)
    # Of a row that is right and there twice, the second is one too many.
    rights = np.flatnonzero(right)
    _, first = np.unique(at[rights], return_index=True)
    found[at[rights[first]]] = True
    accounted = np.zeros(len(ids), bool)
    accounted[rights[first]] = True
    extra.extend(_Row(key, int(ids[i]), leaves[i].tobytes()) for i in np.flatnonzero(~accounted).tolist())
    for i in np.flatnonzero(~found).tolist():
        leaf = before.leaves[i].tobytes()
        missed.append(_Missed(key, int(before.ids[i]), leaf, int(before.aged_ms[i])))


def _classified(
    tenant_id: str,
    extra: Sequence[_Row],
    missed: Sequence[_Missed],
    sealed: Mapping[TopicKey, Sealed],
    stated: Stated,
) -> list[Finding]:
    by_place = {(lost.key, lost.id): lost for lost in missed}
    by_leaf: dict[bytes, list[_Missed]] = {}
    for lost in missed:
        by_leaf.setdefault(lost.leaf, []).append(lost)
    wanted = {row.leaf for row in extra}
    known = _leaves_among(sealed.values(), wanted) if extra else {}
    groups: dict[tuple[str, TopicKey], list[tuple[int, str]]] = {}
    gone = set(by_place)

    def say(kind: str, key: TopicKey, identity: int, note: str = "") -> None:
        groups.setdefault((kind, key), []).append((identity, note))

    for row in extra:
        if by_leaf.get(row.leaf):
            source = by_leaf[row.leaf].pop(0)
            say("reordered", row.key, row.id, f"{_at(row.id)} holds the row of {_at(source.id)}")
            gone.discard((source.key, source.id))
            gone.discard((row.key, row.id))
        elif row.leaf in known:
            original = known[row.leaf]
            same = original == row.id
            say("duplicated", row.key, row.id, "" if same else f"{_at(row.id)} is a copy of {_at(original)}")
        elif (row.key, row.id) in by_place and (row.key, row.id) in gone:
            say("altered", row.key, row.id)
            gone.discard((row.key, row.id))
        else:
            say("inserted", row.key, row.id)
    for key, identity in gone:
        row_gone = by_place[key, identity]
        expired = row_gone.aged_ms < stated.cutoff_ms(tenant_id, key.topic)
        say("expired" if expired else "removed", key, identity)
    return [
        about_rows(kind, key.chain, key.topic, [i for i, _ in rows], _detail(kind, key.topic, rows))  # type: ignore[arg-type]
        for (kind, key), rows in sorted(groups.items())
    ]


def _leaves_among(sealed: Iterable[Sealed], wanted: set[bytes]) -> dict[bytes, int]:
    """Return which of some hashes were sealed, with a row that has it."""
    sought = np.array([np.void(leaf) for leaf in wanted])
    found: dict[bytes, int] = {}
    for before in sealed:
        for i in np.flatnonzero(np.isin(before.leaves, sought)).tolist():
            found.setdefault(before.leaves[i].tobytes(), int(before.ids[i]))
    return found


def _at(identity: int) -> str:
    where = place(identity)
    return f"{where['offset']}/{where['index']}"


_WORDS: Final[Mapping[str, str]] = {
    "altered": "differ from what was sealed",
    "removed": "were sealed and are gone",
    "inserted": "were never sealed and stand among sealed ones",
    "reordered": "stand in another's place",
    "duplicated": "are there once more",
    "expired": "were removed by retention, as a signed statement says",
    "unsealed": "are younger than the last seal",
    "seal_broken": "cannot be proven: the seals that covered them are missing or broken",
}


def _detail(kind: str, topic: str, rows: Sequence[tuple[int, str]]) -> str:
    notes = "; ".join(note for _, note in rows[:3] if note)
    ids = [identity for identity, _ in rows]
    where = _at(min(ids)) if len(ids) == 1 else f"{_at(min(ids))} to {_at(max(ids))}"
    return f"{len(ids):,} rows of {topic} {_WORDS[kind]}: {where}{'; ' + notes if notes else ''}"


def beyond_stated(findings: Iterable[Finding], stated: Stated) -> list[Finding]:
    """Return what to say of more expired rows than statements say that retention removed."""
    gone: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        if finding.kind == "expired":
            gone[finding.tenant_id, finding.topic] += finding.rows
    found = []
    for (tenant_id, topic), rows in gone.items():
        if (more := rows - stated.rows(tenant_id, topic)) > 0:
            what = (
                f"{rows:,} rows of {topic} are gone that are old enough for retention, "
                f"and statements say that it removed {rows - more:,}"
            )
            found.append(Finding("removed", tenant_id, "", -1, what, topic, more))
    return found


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a chain's topic has come.

    Parameters
    ----------
    covered
        Offsets that the tenant's good seals cover.
    sealed_next
        Where the partition's last seal ended, or the tenant's.
    ledger_next
        Where the ledger ends.
    sealed_at_ms
        When the partition was sealed last.
    whole
        Whether all of the tenant's seals are there; where not, what they covered is unproven.
    """

    covered: Sequence[tuple[int, int]]
    sealed_next: int
    ledger_next: int
    sealed_at_ms: int
    whole: bool


# A row is stored, its account written and its offset committed within seconds; a slow store takes longer.
UNACCOUNTED_MS: Final = 10 * 60_000


def outside(key: TopicKey, stored: Stored, reach: Reach) -> list[Finding]:
    """Return what to say of rows that no seal covers.

    Those beyond the last seal are younger, unless the ledger does not know of them although the partition was
    sealed long after they are said to have come: then no worker stored them.
    """
    assert stored.ingest_ms is not None
    loose = ~within(stored.ids, reach.covered)
    offsets = stored.ids >> INDEX_BITS
    beyond = loose & (offsets >= reach.sealed_next)
    unaccounted = beyond & (offsets >= reach.ledger_next)
    unaccounted &= stored.ingest_ms < reach.sealed_at_ms - UNACCOUNTED_MS
    among = loose & ~beyond
    told = {
        "unsealed": beyond & ~unaccounted,
        "inserted": unaccounted | among if reach.whole else unaccounted,
        "seal_broken": among if not reach.whole else among & False,
    }
    findings = []
    for kind, which in told.items():
        ids = stored.ids[which].tolist()
        if ids:
            what = _detail(kind, key.topic, [(identity, "") for identity in ids])
            findings.append(about_rows(kind, key.chain, key.topic, ids, what))  # type: ignore[arg-type]
    return findings
