"""Is a chain of seals whole? Pure: seals in, findings and the seals that can be relied on out."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from store.seals.findings import Finding, about_chain
from store.seals.keys import Trust
from store.seals.seal import FIRST, ChainId, Member, Seal


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that was checked.

    Parameters
    ----------
    good
        Seals that hold, in their order.
    findings
        What is wrong with the others.
    """

    id: ChainId
    good: list[Seal]
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def position(self) -> dict[str, int]:
        """Topic id to the offset that the chain has come to."""
        return self.good[-1].position if self.good else {}


def check_chain(
    chain: ChainId,
    seals: Sequence[Seal],
    trust: Trust,
    named: Mapping[int, str] | None = None,
    *,
    from_start: bool = True,
) -> Chain:
    """Check one chain.

    Parameters
    ----------
    seals
        All that there are of it.
    named
        Sequence number to digest, as the partition's chain or an anchor names them; None where nobody does.
    from_start
        Whether the chain must begin with its first seal; a bundle holds a stretch of it.
    """
    named = named or {}
    findings: list[Finding] = []
    good: list[Seal] = []
    by_sequence: dict[int, list[Seal]] = {}
    for seal in seals:
        by_sequence.setdefault(seal.sequence, []).append(seal)
    present = set(by_sequence)
    vouched = _vouched(seals, trust, named)
    for sequence, same in sorted(by_sequence.items()):
        chosen = _choose(
            chain, same, trust, named.get(sequence), good[-1] if good else None, vouched, findings
        )
        if chosen is not None:
            good.append(chosen)
    if from_start or present:
        _look_for_gaps(chain, present, named, FIRST if from_start else min(present), findings)
    _look_at_links(chain, good, from_start, findings)
    return Chain(chain, good, findings)


def _choose(
    chain: ChainId,
    same: Sequence[Seal],
    trust: Trust,
    named: str | None,
    before: Seal | None,
    vouched: Set[str],
    findings: list[Finding],
) -> Seal | None:
    """Return the seal of a sequence number that can be relied on, if there is one."""
    sequence = same[0].sequence
    distinct = {seal.body: seal for seal in same}
    copies = len(same) - len({(seal.body, seal.signature) for seal in same})
    if copies:
        findings.append(
            about_chain("duplicated", chain, f"seal {sequence} is there {copies + 1} times", [sequence])
        )
    holding = []
    for seal in {(seal.body, seal.signature): seal for seal in same}.values():
        verdict = seal.signature_holds(trust)
        if verdict is None:
            what = f"seal {sequence} is signed by the key {seal.key_id}, which is not known here"
            findings.append(about_chain("unknown_key", chain, what, [sequence]))
        elif not verdict:
            what = f"seal {sequence} is not what the key {seal.key_id} signed"
            findings.append(about_chain("bad_signature", chain, what, [sequence]))
        elif not trust.counts(seal.key_id, seal.sealed_at) and seal.digest not in vouched:
            ended = trust.ended[seal.key_id].isoformat(timespec="seconds")
            what = f"seal {sequence} is signed by the key {seal.key_id}, which was in use until {ended}"
            findings.append(about_chain("bad_signature", chain, what, [sequence]))
        else:
            holding.append(seal)
    if len(distinct) > 1:
        keys = ", ".join(sorted({seal.key_id for seal in distinct.values()}))
        what = f"{len(distinct)} different seals have the number {sequence}; signed by {keys}"
        findings.append(about_chain("forked", chain, what, [sequence]))
    elif named is not None and holding and holding[0].digest != named:
        what = f"seal {sequence} is not the one that was made then: its digest was {named[:16]}…"
        findings.append(about_chain("forked", chain, what, [sequence]))
        return None
    holding.sort(key=lambda seal: (seal.digest != named, before is None or seal.previous != before.digest))
    return holding[0] if holding else None


def _vouched(seals: Sequence[Seal], trust: Trust, named: Mapping[int, str]) -> Set[str]:
    """Return the digests of seals that do not rest on their own signature.

    A seal that holds names the one before it, and so all before that: a key that was stolen afterwards can
    change none of them.
    """
    found = {*named.values(), *trust.vouched}
    if all(trust.counts(seal.key_id, seal.sealed_at) for seal in seals):
        return found
    for seal in sorted(seals, key=lambda seal: -seal.sequence):
        counts = trust.counts(seal.key_id, seal.sealed_at) and seal.signature_holds(trust)
        if counts or seal.digest in found:
            found.add(seal.previous)
    return found


def _look_for_gaps(
    chain: ChainId, present: set[int], named: Mapping[int, str], first: int, findings: list[Finding]
) -> None:
    last = max(present | named.keys(), default=first - 1)
    missing = [sequence for sequence in range(first, last + 1) if sequence not in present]
    if missing:
        known = [s for s in missing if s in named]
        named_by = f"; {len(known)} of them are named by the partition's chain or an anchor" if known else ""
        findings.append(
            about_chain("seal_missing", chain, f"seals are missing: {_numbers(missing)}{named_by}", missing)
        )


def _look_at_links(chain: ChainId, good: Sequence[Seal], from_start: bool, findings: list[Finding]) -> None:
    if from_start and good and good[0].sequence == FIRST and good[0].previous:
        findings.append(about_chain("seal_broken", chain, "the first seal names one before it", [FIRST]))
    for before, seal in pairwise(good):
        if seal.sequence != before.sequence + 1:
            continue  # told already
        if seal.previous != before.digest:
            what = f"seal {seal.sequence} does not follow from seal {before.sequence}"
            findings.append(about_chain("forked", chain, what, [seal.sequence]))
        elif any(i.first != before.position.get(i.topic_id, 0) for i in seal.intervals):
            what = f"seal {seal.sequence} does not begin where seal {before.sequence} ended"
            findings.append(about_chain("seal_broken", chain, what, [seal.sequence]))


def _numbers(values: Sequence[int]) -> str:
    """Return numbers as ranges.

    >>> _numbers([1, 2, 3, 7])
    '1-3, 7'
    """
    parts: list[list[int]] = []
    for value in values:
        if parts and parts[-1][1] == value - 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in parts)


def orphans(chain: Chain, named: Mapping[int, str]) -> list[Finding]:
    """Return seals that no round of the partition names: somebody with the key made them beside it."""
    extra = [seal.sequence for seal in chain.good if seal.sequence not in named]
    if not extra:
        return []
    what = f"no round of the partition names the seals {_numbers(extra)}"
    return [about_chain("forked", chain.id, what, extra)]


def members_by_chain(
    rounds: Mapping[ChainId, Sequence[Member]],
) -> dict[ChainId, dict[int, str]]:
    """Return, by tenant's chain, sequence number to digest, from the rounds of partitions' own chains."""
    found: dict[ChainId, dict[int, str]] = {}
    for chain, members in rounds.items():
        for member in members:
            whose = ChainId(member.tenant_id, chain.cluster_id, chain.partition)
            found.setdefault(whose, {})[member.sequence] = member.digest
    return found


def check_anchors(chains: Mapping[ChainId, Chain], anchors: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return what anchors name and is not there any more: heads that were cut off.

    Parameters
    ----------
    chains
        The partitions' own.
    anchors
        Each with ``cluster_id``, ``partition``, ``sequence``, ``digest``.
    """
    # A store has an anchor for every few seals.
    digests = {chain.id: {seal.digest for seal in chain.good} for chain in chains.values()} if anchors else {}
    lost: dict[ChainId, dict[int, str]] = {}
    for anchor in anchors:
        chain = ChainId("", str(anchor["cluster_id"]), int(anchor["partition"]))
        if anchor["digest"] not in digests.get(chain, ()):
            lost.setdefault(chain, {})[int(anchor["sequence"])] = str(anchor["digest"])
    findings = []
    for chain, sequences in sorted(lost.items()):
        have = {seal.sequence for seal in chains[chain].good} if chain in chains else set()
        told = set().union(*(f.sequences for f in chains[chain].findings)) if chain in chains else set()
        cut = [s for s in sequences if s not in have and s not in told]
        replaced = [s for s in sequences if s in have and s not in told]
        if cut:
            what = f"anchored seals are missing: {_numbers(sorted(cut))}"
            findings.append(about_chain("seal_missing", chain, what, cut))
        if replaced:
            what = f"other seals stand where these were anchored: {_numbers(sorted(replaced))}"
            findings.append(about_chain("forked", chain, what, replaced))
    return findings
