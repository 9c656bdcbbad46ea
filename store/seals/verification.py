"""Verification: chains first, then rows against what was sealed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from store.seals import chains
from store.seals.chain_check import Chain, check_anchors, check_chain, members_by_chain, orphans
from store.seals.comparison import (
    Reach,
    Stored,
    TopicKey,
    beyond_stated,
    compare,
    outside,
    sealed_rows,
    within,
)
from store.seals.findings import Finding, about_chain
from store.seals.grouping import ROWS_AT_ONCE, by_chain, covered_by_topic, packed
from store.seals.keys import Trust
from store.seals.seal import ChainId, Member, Rows, Seal, unpack_members
from store.seals.statements import Stated
from store.seals.trail import Trail

SEALS_AT_ONCE: Final = 200
NO_END: Final = 1 << 62


@dataclass(slots=True)
class Verdict:
    """The outcome.

    Parameters
    ----------
    tenants, chains, seals, rows
        How much was looked at; rows are those that seals hold.
    findings
        Everything that there is to say; `holds` is about tampering only.
    sealed_until
        ``sealed_at`` of the newest seal.
    """

    tenants: int = 0
    chains: int = 0
    seals: int = 0
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)
    sealed_until: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing was tampered with."""
        return not any(finding.is_tampering for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "holds": self.holds}


class Verification:
    """Compares a trail with its seals.

    Parameters
    ----------
    trail
        The store's, or a bundle's.
    trust
        Keys that are believed; those that signed statements introduce are added.
    anchors
        Heads that were kept elsewhere.
    since, until
        Only seals whose rows came then; None: all.
    """

    def __init__(
        self,
        trail: Trail,
        trust: Trust,
        anchors: Sequence[Mapping[str, Any]] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self._trail = trail
        self._trust = trust
        self._anchors = anchors
        self._since_ms = int(since.timestamp() * 1000) if since else None
        self._until_ms = int(until.timestamp() * 1000) if until else None
        self._verdict = Verdict()
        self._partitions: dict[ChainId, Chain] = {}
        self._members: dict[ChainId, dict[int, str]] = {}
        self._stated = Stated([], trust)
        self.rows_by_tenant: dict[str, int] = {}
        self._ledger_ends: Mapping[tuple[str, int, str], int] | None = None
        # Of tenants that are looked at together: a query for each chain would take longer than all else.
        self._contents_at_hand: Mapping[ChainId, Mapping[int, list[bytes]]] | None = None
        # Cluster and partition of every chain and row that was looked at.
        self._touched: set[tuple[str, int]] = set()
        # Chains with seals that no round names which was there when rounds were read.
        self._unnamed: list[Chain] = []

    def run(self, tenant_id: str | None = None) -> Verdict:
        """Verify one tenant's rows, or everybody's."""
        verdict, trail = self._verdict, self._trail
        broken = self._read_statements()
        if trail.complete:
            self._check_partitions()
        found = trail.tenants(tenant_id)
        if trail.complete:
            named = {chain.tenant_id for chain in self._members}
            found = {name: 0 for name in sorted(named) if tenant_id in (None, name)} | dict(found)
        verdict.tenants = len(found)
        for group in packed(found):
            self._check_tenants(group, sum(found[t] for t in group) > 2 * ROWS_AT_ONCE)
        self._look_for_orphans()
        self._compare_with_stated()
        self._tell_of_statements(tenant_id, broken)
        # Of one tenant, only what its own chains rest on.
        for chain_id, chain in self._partitions.items():
            if tenant_id is None or chain_id[1:] in self._touched:
                self._count(chain)
        shredded = {name: set(subjects) for name, subjects in trail.shredded().items()}
        for name, subjects in self._stated.shredded.items():
            shredded.setdefault(name, set()).update(subjects)
        for name, subjects in shredded.items():
            if name in found and (rows := trail.rows_with(name, sorted(subjects))):
                what = f"{rows:,} rows are about {len(subjects)} forgotten people, by pseudonyms of nobody"
                self._say(Finding("shredded", name, "", -1, what, rows=rows))
        return verdict

    def _say(self, finding: Finding) -> None:
        self._verdict.findings.append(finding)

    def _read_statements(self) -> int:
        """Read what is stated by now, and return how many things in the place of statements are none."""
        statements, broken = self._trail.statements()
        self._stated = Stated(statements, self._trust)
        return broken

    def _tell_of_statements(self, tenant_id: str | None, broken: int) -> None:
        for refused in self._stated.refused:
            if tenant_id not in (None, refused.tenant_id) and refused.tenant_id:
                continue
            what = f"a statement about {refused.kind} of {refused.stated_at}: no known key signed it"
            self._say(Finding("bad_signature", refused.tenant_id, "", -1, what))
        if broken:
            self._say(Finding("seal_broken", "", "", -1, f"{broken} rows among the statements are none"))

    def _check_partitions(self) -> None:
        seals, broken = self._trail.seals([""])
        self._tell_broken(broken)
        rounds: dict[ChainId, list[Member]] = {}
        for chain_id, own in by_chain(seals).items():
            named = {
                int(a["sequence"]): str(a["digest"])
                for a in self._anchors
                if (str(a["cluster_id"]), int(a["partition"])) == (chain_id.cluster_id, chain_id.partition)
            }
            chain = check_chain(chain_id, own, self._trust, named)
            self._partitions[chain_id] = chain
            rounds[chain_id] = self._named_by(chain)
        self._verdict.findings += check_anchors(self._partitions, self._anchors)
        self._members = members_by_chain(rounds)

    def _named_by(self, chain: Chain) -> list[Member]:
        """Return the tenants' seals that a partition's good ones name."""
        members: list[Member] = []
        for seal, contents in self._contents(chain):
            if contents is None:
                what = f"what seal {seal.sequence} holds the digest of is not there"
                chain.findings.append(about_chain("seal_broken", chain.id, what, [seal.sequence]))
            else:
                members += unpack_members(contents)
        return members

    def _look_for_orphans(self) -> None:
        """Tell of seals that no round names, not even one of those that were sealed while this read."""
        before = {ChainId("", c.id.cluster_id, c.id.partition): c for c in self._unnamed}
        seals = self._trail.seals([""])[0] if before else []
        later: dict[ChainId, list[Member]] = {}
        for chain_id, own in by_chain(seals).items():
            if chain_id in before:
                reached = self._partitions[chain_id].good[-1].sequence
                good = check_chain(chain_id, own, self._trust).good
                later[chain_id] = self._named_by(Chain(chain_id, [s for s in good if s.sequence > reached]))
        members = members_by_chain(later)
        for chain in self._unnamed:
            named = self._members.get(chain.id, {}) | members.get(chain.id, {})
            self._verdict.findings += orphans(chain, named)

    def _tell_broken(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            what = f"what stands in the place of seal {row['sequence']} is none"
            chain = ChainId(row["tenant_id"], "", row["kafka_partition"])
            self._say(about_chain("seal_broken", chain, what, [row["sequence"]]))

    def _count(self, chain: Chain) -> None:
        self._verdict.chains += 1
        self._verdict.seals += len(chain.good)
        self._verdict.findings += chain.findings
        if chain.good:
            self._verdict.sealed_until = max(self._verdict.sealed_until, chain.good[-1].sealed_at)

    def _contents(self, chain: Chain) -> Iterator[tuple[Seal, bytes | None]]:
        seals = list(chain.good)
        if self._contents_at_hand is not None:
            ready = self._contents_at_hand.get(chain.id, {})
            yield from ((seal, chains.contents_of(ready, seal)) for seal in seals)
            return
        for at in range(0, len(seals), SEALS_AT_ONCE):
            some = seals[at : at + SEALS_AT_ONCE]
            stored = self._trail.contents(chain.id, some[0].sequence, some[-1].sequence)
            for seal in some:
                yield seal, chains.contents_of(stored, seal)

    def _check_tenants(self, tenant_ids: Sequence[str], large: bool) -> None:
        seals, broken = self._trail.seals(tenant_ids)
        self._tell_broken(broken)
        if any(seal.key_id not in self._trust.keys for seal in seals):
            self._read_statements()  # the key may have been rotated since
        checked: dict[str, list[Chain]] = {tenant_id: [] for tenant_id in tenant_ids}
        own = by_chain(seals)
        missing = [c for c in self._members if c.tenant_id in checked and c not in own]
        self._touched |= {(c.cluster_id, c.partition) for c in (*own, *missing)}
        for chain_id in [*own, *missing]:
            named = self._members.get(chain_id, {})
            chain = check_chain(
                chain_id, own.get(chain_id, []), self._trust, named, from_start=self._trail.complete
            )
            partition = self._partitions.get(ChainId("", chain_id.cluster_id, chain_id.partition))
            if self._trail.complete and partition is not None and partition.whole and orphans(chain, named):
                self._unnamed.append(chain)
            self._count(chain)
            checked[chain_id.tenant_id].append(chain)
        if large or self._since_ms is not None or self._until_ms is not None:
            for tenant_id, found in checked.items():
                self._check_large(tenant_id, found)
        else:
            self._check_small(checked)

    def _check_small(self, checked: Mapping[str, Sequence[Chain]]) -> None:
        """Compare tenants whose rows fit into memory together."""
        self._contents_at_hand = self._trail.all_contents([*checked])
        held = {t: list(self._held(found)) for t, found in checked.items()}
        self._contents_at_hand = None
        forms = {seal.form for pairs in held.values() for seal, _ in pairs} or {1}
        for n, form in enumerate(sorted(forms)):
            rows = self._trail.rows([*checked], form)
            for tenant_id, found in checked.items():
                stored = rows.get(tenant_id, {})
                self._compare(tenant_id, [p for p in held[tenant_id] if p[0].form == form], stored)
                if n == 0 and self._any_loose(found, stored):
                    self._tell_of_loose(tenant_id, found)

    def _check_large(self, tenant_id: str, found: Sequence[Chain]) -> None:
        """Compare one tenant's rows in runs of its seals."""
        for chain in found:
            run: list[tuple[Seal, Rows]] = []
            rows = 0
            for pair in self._held([chain]):
                if run and (rows + len(pair[1]) > ROWS_AT_ONCE or run[0][0].form != pair[0].form):
                    self._compare_run(tenant_id, run)
                    run, rows = [], 0
                run.append(pair)
                rows += len(pair[1])
            if run:
                self._compare_run(tenant_id, run)
        self._tell_of_loose(tenant_id, found)

    def _compare_run(self, tenant_id: str, run: Sequence[tuple[Seal, Rows]]) -> None:
        stored = self._trail.rows_of([seal for seal, _ in run], run[0][0].form)
        self._compare(tenant_id, run, stored)

    def _compare(
        self, tenant_id: str, pairs: Sequence[tuple[Seal, Rows]], stored: Mapping[TopicKey, Stored]
    ) -> None:
        sealed = sealed_rows(pairs)
        looked_at = sum(len(rows) for _, rows in pairs)
        self._verdict.rows += looked_at
        self.rows_by_tenant[tenant_id] = self.rows_by_tenant.get(tenant_id, 0) + looked_at
        found = compare(tenant_id, sealed, stored, self._stated)
        if any(finding.kind == "removed" for finding in found):
            # Retention may have stated and removed it since statements were read.
            self._read_statements()
            found = compare(tenant_id, sealed, stored, self._stated)
        self._verdict.findings += found

    def _compare_with_stated(self) -> None:
        """Tell of more rows that are gone by their age than retention says it removed."""
        if beyond_stated(self._verdict.findings, self._stated):
            self._read_statements()  # it may have removed more since
            self._verdict.findings += beyond_stated(self._verdict.findings, self._stated)

    def _held(self, found: Iterable[Chain]) -> Iterator[tuple[Seal, Rows]]:
        """Yield the chosen good seals with their rows; those whose rows are not there are told."""
        for chain in found:
            for seal, contents in self._contents(chain):
                if not self._chosen(seal):
                    continue
                try:
                    if contents is None:
                        raise ValueError("what it holds the digest of is not there")
                    yield seal, Rows.unpack(contents, seal.rows)
                except ValueError as error:
                    chain.good.remove(seal)
                    what = f"seal {seal.sequence}: {error}"
                    finding = about_chain("seal_broken", chain.id, what, [seal.sequence])
                    chain.findings.append(finding)
                    self._say(finding)

    def _chosen(self, seal: Seal) -> bool:
        early = self._since_ms is not None and seal.last_ingest_ms < self._since_ms
        late = self._until_ms is not None and seal.first_ingest_ms >= self._until_ms
        return not early and not late

    def _any_loose(self, found: Sequence[Chain], stored: Mapping[TopicKey, Stored]) -> bool:
        covered = covered_by_topic(found)
        self._touched |= {(key.chain.cluster_id, key.chain.partition) for key in stored}
        return any(not within(rows.ids, covered.get(key, [])).all() for key, rows in stored.items())

    def _tell_of_loose(self, tenant_id: str, found: Sequence[Chain]) -> None:
        """Tell of rows that no seal covers."""
        by_id = {chain.id: chain for chain in found}
        covered = covered_by_topic(found)
        for key, rows in self._trail.loose(tenant_id, covered).items():
            self._touched.add((key.chain.cluster_id, key.chain.partition))
            reach = self._reach(key, by_id.get(key.chain), covered.get(key, []))
            self._verdict.findings += outside(key, rows, reach)

    def _reach(self, key: TopicKey, chain: Chain | None, covered: Sequence[tuple[int, int]]) -> Reach:
        partition = self._partitions.get(ChainId("", key.chain.cluster_id, key.chain.partition))
        last = partition.good[-1] if partition is not None and partition.good else None
        whole = chain is None or chain.whole
        topics = {i.topic_id: i.topic for i in last.intervals} if last is not None else {}
        if not self._trail.complete or topics.get(key.topic_id, key.topic) != key.topic:
            # Of a bundle, and of a topic under another's id, nothing can be younger than its seals.
            return Reach(covered, NO_END, 0, 0, whole)
        if self._ledger_ends is None:
            self._ledger_ends = self._trail.ledger_ends()
        return Reach(
            covered,
            max(
                last.position.get(key.topic_id, 0) if last is not None else 0,
                chain.position.get(key.topic_id, 0) if chain is not None else 0,
            ),
            self._ledger_ends.get((key.chain.cluster_id, key.chain.partition, key.topic_id), 0),
            # Where a partition has no seal, by when anything was sealed: workers are at work.
            _ms(last.sealed_at if last is not None else self._sealed_until()),
            whole,
        )

    def _sealed_until(self) -> str:
        return max((c.good[-1].sealed_at for c in self._partitions.values() if c.good), default="")


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
