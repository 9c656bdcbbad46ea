"""Tampering with the trail, made directly in ClickHouse: each kind is found and named, on a server too."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.tenant import Tenant
from store.database import Database
from store.holds import place
from store.queries import TenantContext
from store.retention import run_retention
from store.seals.chains import read_seals
from store.seals.keys import Signer, Trust
from store.seals.seal import ChainId, Seal
from store.seals.sealing import Sealing
from store.seals.statements import keep, state_end, state_key, state_shredded
from store.seals.trail import StoredTrail
from store.seals.verification import Verification
from tests.sealed_trail import SealedTrail

OWN = "tenant_id = {tenant:String} AND kafka_cluster_id = {cluster:String}"
COPIED = (
    "INSERT INTO events SELECT * REPLACE ({changes}) FROM (SELECT * FROM events "
    "WHERE tenant_id = {{tenant:String}} AND kafka_topic = 'audit.auth' AND kafka_offset = {offset} LIMIT 1)"
)


@pytest.fixture
def trail(each_store: Database) -> Iterator[SealedTrail]:
    """Three seals of a tenant, with another tenant's rows between its own."""
    made = SealedTrail(each_store)
    for _ in range(3):
        made.store(10)
        made.store(5, tenant=made.other)
        made.store(4, "request")
        made.seal()
    yield made
    # What is stated of keys is about everybody's trail: others share this store.
    each_store.command("DELETE FROM seal_statements WHERE tenant_id = ''")


def test_a_trail_that_nobody_touched_holds(trail: SealedTrail) -> None:
    """Every row is in a seal, and there is nothing to say."""
    verdict = trail.verify()
    assert verdict.findings == []
    assert verdict.holds
    assert (verdict.seals >= 3, verdict.rows) == (True, 42)


def test_an_altered_row_is_named(trail: SealedTrail) -> None:
    """Somebody made a failed login look like a successful one."""
    trail.alter(f"ALTER TABLE events UPDATE outcome = 'failure' WHERE {OWN} AND kafka_offset = 17")
    [found] = trail.verify().findings
    assert (found.kind, found.rows, found.topic) == ("altered", 1, "audit.auth")
    assert found.places == [{"offset": 17, "index": 0}]
    assert found.tenant_id == trail.tenant
    assert not trail.verify().holds


def test_a_removed_row_is_named(trail: SealedTrail) -> None:
    """Its place in Kafka is in the seal, although the row is gone."""
    trail.alter(f"DELETE FROM events WHERE {OWN} AND kafka_topic = 'audit.auth' AND kafka_offset = 3")
    [found] = trail.verify().findings
    assert (found.kind, found.rows, found.places) == ("removed", 1, [{"offset": 3, "index": 0}])


def test_all_rows_of_a_tenant_removed_are_missed(trail: SealedTrail) -> None:
    """Nothing of it is left but its seals."""
    trail.alter("DELETE FROM events WHERE tenant_id = {tenant:String}")
    assert trail.kinds() == [("removed", 30), ("removed", 12)]


def test_an_inserted_row_is_named(trail: SealedTrail) -> None:
    """It claims a place in Kafka that was another tenant's."""
    trail.alter(COPIED.format(changes="'forged' AS event_id, toInt64(12) AS kafka_offset", offset=3))
    [found] = trail.verify().findings
    assert (found.kind, found.places) == ("inserted", [{"offset": 12, "index": 0}])


def test_a_row_inserted_for_a_tenant_that_never_had_one_is_found(trail: SealedTrail) -> None:
    """The partition's own chain says up to where everything is sealed."""
    ghost = f"{trail.tenant}-ghost"
    trail.alter(COPIED.format(changes=f"'{ghost}' AS tenant_id", offset=3))
    [found] = trail.verify(ghost).findings
    assert (found.kind, found.tenant_id, found.rows) == ("inserted", ghost, 1)


@pytest.mark.parametrize(
    "place",
    [
        "toInt64(1000000) AS kafka_offset",
        "toInt32(99) AS kafka_partition",
        "'elsewhere' AS kafka_cluster_id",
        "'another' AS kafka_topic_id",
        "'audit.other' AS kafka_topic",
    ],
)
def test_a_row_that_hides_where_no_seal_reaches_is_found(trail: SealedTrail, place: str) -> None:
    """No worker has an account of it, and sealing went on long after it is said to have come."""
    trail.alter(COPIED.format(changes=f"'forged' AS event_id, {place}", offset=3))
    trail.now += timedelta(minutes=30)
    trail.store(1)
    trail.seal()
    findings = [f for f in trail.verify().findings if f.tenant_id == trail.tenant]
    assert [(f.kind, f.rows) for f in findings] == [("inserted", 1)]


def test_rows_that_changed_places_are_reordered(trail: SealedTrail) -> None:
    """Each is as it was, but where the other one stood."""
    swap = "transform(kafka_offset, [2, 8], [8, 2]) AS kafka_offset"
    trail.alter(
        f"INSERT INTO events SELECT * REPLACE ({swap}) FROM events "
        f"WHERE {OWN} AND kafka_topic = 'audit.auth' AND kafka_offset IN (2, 8)"
    )
    trail.alter(
        f"DELETE FROM events WHERE {OWN} AND kafka_topic = 'audit.auth' AND "
        "((kafka_offset = 2 AND event_id = 'auth-2') OR (kafka_offset = 8 AND event_id = 'auth-8'))"
    )
    [found] = trail.verify().findings
    assert (found.kind, found.rows) == ("reordered", 2)
    assert [place["offset"] for place in found.places] == [2, 8]


def test_a_row_that_was_moved_to_an_index_that_no_message_has_is_not_where_it_was(trail: SealedTrail) -> None:
    """Places are told apart up to the longest message: a longer one must not look like the next offset."""
    trail.alter(
        COPIED.format(changes="toInt64(2) AS kafka_offset, toUInt16(1024) AS message_index", offset=3)
    )
    trail.alter(f"DELETE FROM events WHERE {OWN} AND kafka_topic = 'audit.auth' AND kafka_offset = 3")
    assert not trail.verify().holds
    assert {"offset": 2, "index": 1023} in [place for one in trail.verify().findings for place in one.places]


def test_a_copied_row_is_a_duplicate(trail: SealedTrail) -> None:
    """Once more at its own place, and once at another."""
    trail.alter(COPIED.format(changes="kafka_offset AS kafka_offset", offset=3))
    assert trail.kinds() == [("duplicated", 1)]
    trail.alter(COPIED.format(changes="toInt64(12) AS kafka_offset", offset=4))
    [found] = trail.verify().findings
    assert (found.kind, found.rows) == ("duplicated", 2)
    assert "12/0 is a copy of 4/0" in found.detail


def test_a_fork_by_another_key_is_found(trail: SealedTrail) -> None:
    """Rows were altered and the last seal made anew, with a key that nobody knows."""
    mine = {chain: seal for chain, seal in trail.heads.items() if chain.tenant_id == trail.tenant}
    [(chain, last)] = mine.items()
    trail.alter(f"ALTER TABLE events UPDATE outcome = 'failure' WHERE {OWN} AND kafka_offset = 31")
    sealing = Sealing(trail.database, trail.ids)
    two = _heads_at(trail, 2)
    own = two[sealing.partition_chain(trail.partition)]
    ends = {i.topic: i.next for i in last.intervals}
    sealing.seal([sealing.stretch(trail.partition, own, ends)], two, Signer.new(), trail.now)
    kinds = [kind for kind, _ in trail.kinds()]
    assert kinds.count("forked") == 2  # of the tenant and of the partition
    assert kinds.count("unknown_key") == 2
    assert "altered" in kinds
    assert chain.tenant_id == trail.tenant


def _heads_at(trail: SealedTrail, sequence: int) -> dict[ChainId, Seal]:
    seals, _ = read_seals(trail.database, [trail.tenant, trail.other, ""])
    return {
        s.chain: s for s in seals if s.sequence == sequence and s.chain.cluster_id == trail.ids.cluster_id
    }


def test_a_fork_with_the_right_key_is_found(trail: SealedTrail) -> None:
    """Two workers that both went on from one head, or an operator who rewrote history."""
    two = _heads_at(trail, 2)
    own = two[trail.sealing.partition_chain(trail.partition)]
    ends = {i.topic: i.next for i in trail.heads[own.chain].intervals}
    trail.sealing.seal(
        [trail.sealing.stretch(trail.partition, own, ends)],
        two,
        trail.signer,
        trail.now + timedelta(hours=1),
    )
    assert [kind for kind, _ in trail.kinds()].count("forked") == 2


def test_what_retention_removed_is_explained_by_a_signed_statement(each_store: Database) -> None:
    """Rows older than the tenant's setting are expired; one younger that went with them was removed."""
    trail = SealedTrail(each_store)
    trail.store(6)
    trail.seal()
    trail.now += timedelta(days=5)
    trail.store(4)
    trail.seal()
    _keep_for_a_day(trail)
    run_retention(each_store, trail.now + timedelta(hours=1), trail.signer)
    assert trail.kinds() == [("expired", 6)]
    assert trail.verify().holds
    trail.alter(f"DELETE FROM events WHERE {OWN} AND kafka_offset = 8")
    assert trail.kinds() == [("expired", 6), ("removed", 1)]


def test_rows_on_hold_that_were_deleted_by_hand_are_missed(each_store: Database) -> None:
    """They are as old as what retention removed, but it did not count them: its statement says how many."""
    trail = SealedTrail(each_store)
    trail.store(14)
    trail.seal()
    trail.now += timedelta(days=5)
    _keep_for_a_day(trail)
    place(each_store, TenantContext(trail.tenant), "user-1", reason="", actor="officer", now=trail.now)
    run_retention(each_store, trail.now, trail.signer)
    assert trail.kinds() == [("expired", 12)]
    trail.alter(f"DELETE FROM events WHERE {OWN} AND user_id = 'user-1'")
    assert trail.kinds() == [("expired", 14), ("removed", 2)]


def test_a_forged_retention_run_excuses_nothing(each_store: Database) -> None:
    """Whoever can delete can also write into retention_runs; signing is another matter."""
    trail = SealedTrail(each_store)
    trail.store(6)
    trail.seal()
    _keep_for_a_day(trail)
    run_retention(each_store, trail.now + timedelta(days=5), Signer.new())
    kinds = trail.kinds()
    assert ("removed", 6) in kinds
    assert ("bad_signature", 0) in kinds
    assert not trail.verify().holds


def _keep_for_a_day(trail: SealedTrail) -> None:
    tenant = Tenant(tenant_id=trail.tenant, organization_id="o", name="n", retention_days=1)
    row = {"tenant_id": trail.tenant, "version": 1, "body": tenant.model_dump_json(), "applied_at": trail.now}
    trail.database.insert_rows("tenants", [row])


def test_a_shredded_person_is_told_and_nothing_is_wrong(trail: SealedTrail) -> None:
    """The rows keep a pseudonym that is nobody's any more."""
    keep(trail.database, [state_shredded(trail.tenant, "user-1", trail.now, trail.signer)])
    [found] = trail.verify().findings
    assert found.kind == "shredded"
    assert found.rows > 0
    assert trail.verify().holds


def test_forgetting_people_leaves_every_seal_as_it_was(trail: SealedTrail) -> None:
    """The vault says who was forgotten; that excuses nothing else."""
    row = {
        "tenant_id": trail.tenant,
        "pseudonym": "user-2",
        "forgotten_at": trail.now,
        "certificate_id": "c-1",
    }
    trail.database.insert_rows("shreddings", [row])
    assert [kind for kind, _ in trail.kinds()] == ["shredded"]
    trail.alter(f"DELETE FROM events WHERE {OWN} AND user_id = 'user-2'")
    assert {kind for kind, _ in trail.kinds()} == {"removed"}


def test_a_removed_seal_is_missed(trail: SealedTrail) -> None:
    """In the middle by its number; its rows are unproven, not forged."""
    trail.alter(f"DELETE FROM seals WHERE {OWN} AND sequence = 2")
    kinds = dict(trail.kinds())
    assert kinds.keys() == {"seal_missing", "seal_broken"}
    [missing] = [f for f in trail.verify().findings if f.kind == "seal_missing"]
    assert missing.sequences == [2]


def test_a_tenants_last_seal_removed_is_missed(trail: SealedTrail) -> None:
    """The partition's own chain names it."""
    trail.alter(f"DELETE FROM seals WHERE {OWN} AND sequence = 3")
    assert "seal_missing" in dict(trail.kinds())


def test_a_chain_cut_off_at_its_end_is_known_by_an_anchor(trail: SealedTrail) -> None:
    """Everything of the last round is gone, seals and rows: only what was kept elsewhere can tell."""
    own = trail.heads[trail.sealing.partition_chain(trail.partition)]
    anchor = {
        "cluster_id": own.chain.cluster_id,
        "partition": own.chain.partition,
        "sequence": own.sequence,
        "digest": own.digest,
    }
    trail.alter("DELETE FROM seals WHERE kafka_cluster_id = {cluster:String} AND sequence = 3")
    trail.alter("DELETE FROM events WHERE kafka_cluster_id = {cluster:String} AND kafka_offset >= 30")
    assert "seal_missing" not in dict(trail.kinds())
    [missing] = [f for f in trail.verify(anchors=[anchor]).findings if f.kind == "seal_missing"]
    assert (missing.partition, missing.sequences) == (trail.partition, [3])


def test_an_altered_seal_is_found_by_its_signature(trail: SealedTrail) -> None:
    """Somebody changed the number of rows in it."""
    trail.alter(
        f"ALTER TABLE seals UPDATE body = replaceOne(body, '\"rows\":14', '\"rows\":13') "
        f"WHERE {OWN} AND sequence = 2"
    )
    assert "bad_signature" in dict(trail.kinds())


def test_altered_contents_of_a_seal_are_found(trail: SealedTrail) -> None:
    """They are not what the signed body holds the digest of."""
    trail.alter(f"ALTER TABLE seals UPDATE contents = reverse(contents) WHERE {OWN} AND sequence = 2")
    assert "seal_broken" in dict(trail.kinds())


def test_rows_younger_than_the_last_seal_are_told_apart(trail: SealedTrail) -> None:
    """They are not proven yet, and nothing is wrong with that."""
    trail.store(3)
    assert trail.kinds() == [("unsealed", 3)]
    assert trail.verify().holds


def test_a_rotated_key_is_believed_because_the_one_before_says_so(trail: SealedTrail) -> None:
    """And only then."""
    fresh = Signer.new()
    trail.store(3)
    trail.seal(fresh)
    assert ("unknown_key", 0) in trail.kinds()
    keep(trail.database, [state_key(fresh.public, trail.signer, trail.now)])
    assert trail.kinds() == []


def test_a_seal_by_a_key_that_has_ended_is_refused_unless_another_follows_it(trail: SealedTrail) -> None:
    """Of a stolen key nothing counts by itself; what was sealed before holds by the seals after it."""
    fresh = Signer.new()
    trail.store(3)
    trail.seal(fresh)
    trust = Trust([trail.signer.public, fresh.public], {trail.signer.key_id: datetime.fromtimestamp(0, UTC)})
    assert _kinds(trail, trust) == []
    trail.store(3)
    forged = trail.seal(trail.signer)
    assert _kinds(trail, trust) == ["bad_signature", "bad_signature", "unsealed"]
    # As `seals retire` does where no other seal follows yet.
    own = [seal.digest for seal in forged if not seal.chain.tenant_id]
    keep(trail.database, [state_end(trail.signer.key_id, trail.now, fresh, trail.now, own)])
    assert _kinds(trail, trust) == []


def _kinds(trail: SealedTrail, trust: Trust) -> list[str]:
    found = Verification(StoredTrail(trail.database), trust).run(trail.tenant).findings
    return sorted({(f.kind, f.tenant_id): f.kind for f in found if trail.owns(f)}.values())


def test_only_the_seals_of_a_span_are_compared(trail: SealedTrail) -> None:
    """By when their rows came: what was tampered with outside of it is not looked at."""
    trail.alter(f"ALTER TABLE events UPDATE outcome = 'failure' WHERE {OWN} AND kafka_offset = 3")
    late = trail.now - timedelta(minutes=1, seconds=30)
    assert trail.kinds(since=late) == []
    assert trail.kinds(until=late) == [("altered", 1), ("altered", 1)]


def test_somebody_elses_tampering_is_not_this_tenants(trail: SealedTrail) -> None:
    """A tenant's verdict is about its own rows and seals."""
    trail.alter("DELETE FROM events WHERE tenant_id = {other:String}", other=trail.other)
    assert trail.kinds() == []
    assert ("removed", 15) in trail.kinds(trail.other)


def test_everybody_is_verified_together(trail: SealedTrail) -> None:
    """Without a tenant, all of them."""
    trail.alter(f"DELETE FROM events WHERE {OWN} AND kafka_offset = 3")
    verdict = Verification(StoredTrail(trail.database), Trust([trail.signer.public])).run()
    assert [f.kind for f in verdict.findings if f.tenant_id == trail.tenant] == ["removed", "removed"]


class Busy(StoredTrail):
    """A trail that goes on while it is read: after the partitions' own seals were, something happens."""

    def __init__(self, trail: SealedTrail, then: Callable[[], object]) -> None:
        super().__init__(trail.database)
        self._then: Callable[[], object] | None = then

    def seals(self, tenant_ids: Sequence[str]) -> Any:
        found = super().seals(tenant_ids)
        if self._then is not None:
            then, self._then = self._then, None
            then()
        return found


def seen_while(trail: SealedTrail, then: Callable[[], object]) -> list[str]:
    """Return the kinds of what verification finds while something happens."""
    verdict = Verification(Busy(trail, then), Trust([trail.signer.public])).run(trail.tenant)
    return [finding.kind for finding in verdict.findings if trail.owns(finding)]


def test_a_round_that_is_sealed_meanwhile_is_no_fork(trail: SealedTrail) -> None:
    """Its seals are not in the rounds that were read; they are in those that are there by then."""

    def go_on() -> None:
        trail.store(3)
        trail.seal()

    assert seen_while(trail, go_on) == []


def test_seals_that_no_round_names_are_a_fork_all_the_same(trail: SealedTrail) -> None:
    """Also where rounds go on at that moment."""
    own = trail.sealing.partition_chain(trail.partition)

    def forge() -> None:
        trail.store(3)
        heads = dict(trail.heads)
        trail.seal()
        trail.alter(
            "DELETE FROM seals WHERE kafka_cluster_id = {cluster:String} AND tenant_id = '' "
            f"AND sequence > {heads[own].sequence}"
        )

    assert seen_while(trail, forge) == ["forked"]


def test_a_key_that_is_rotated_meanwhile_is_believed(trail: SealedTrail) -> None:
    """The statement that introduces it was not there when statements were read."""

    def rotate() -> None:
        fresh = Signer.new()
        keep(trail.database, [state_key(fresh.public, trail.signer, trail.now)])
        trail.store(3)
        trail.seal(fresh)

    assert seen_while(trail, rotate) == []


def test_what_retention_removes_meanwhile_has_expired(trail: SealedTrail) -> None:
    """As its signed statement says, which was not there when statements were read."""
    trail.now += timedelta(days=5)
    _keep_for_a_day(trail)
    kinds = seen_while(trail, lambda: run_retention(trail.database, trail.now, trail.signer))
    assert kinds == ["expired", "expired"]
