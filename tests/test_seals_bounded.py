"""Verification of a span rests on rounds from before it: so partitions' chains are read from their start."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sealed_trail import NOW, SealedTrail, batch

from store.database import Database
from store.seals.chains import keep as keep_seals
from store.seals.keys import Signer, Trust
from store.seals.seal import ChainId, next_seal
from store.seals.statements import keep, state_end, state_key
from store.seals.trail import StoredTrail
from store.seals.verification import Verification

DAY = timedelta(days=1)


@pytest.fixture
def trail(database: Database) -> Iterator[SealedTrail]:
    yield SealedTrail(database)
    # What is stated of keys is about everybody's trail: others share this store.
    database.command("DELETE FROM seal_statements WHERE tenant_id = ''")


def rotated(trail: SealedTrail, ended_at: datetime) -> Signer:
    """End the trail's key, as `seals rotate` and `seals retire` do, and return the next one."""
    fresh = Signer.new()
    own = trail.heads[trail.sealing.partition_chain(trail.partition)]
    keep(
        trail.database,
        [
            state_key(fresh.public, trail.signer, trail.now),
            state_end(trail.signer.key_id, ended_at, fresh, trail.now, [own.digest]),
        ],
    )
    return fresh


def test_a_seal_dated_back_before_the_span_hides_no_row_that_came_in_it(trail: SealedTrail) -> None:
    """Who has an earlier key covers their offsets, as of when it was in use; that no round names it tells."""
    trail.store(5)
    trail.seal()
    chain = ChainId(trail.tenant, trail.ids.cluster_id, trail.partition)
    head = trail.heads[chain]
    trail.now += DAY
    trail.seal()
    fresh = rotated(trail, trail.now)
    trail.now += 9 * DAY
    since = trail.now
    trail.store(3, tenant=trail.other)
    trail.seal(fresh)
    whole = {"since": since, "until": since + DAY}
    assert trail.kinds(**whole) == []
    trail.put(batch("auth", trail.tenant, range(5, 8), since + timedelta(hours=1)))
    reached = {trail.ids.topic_ids["audit.auth"]: ("audit.auth", 8)}
    then_ms = int(NOW.timestamp() * 1000)
    forged = next_seal(
        chain, head, reached, {}, b"", (then_ms, then_ms), NOW + timedelta(hours=1), trail.signer
    )
    keep_seals(trail.database, [(forged, b"")])
    assert trail.kinds(**whole) == [("forked", 0)]


def test_a_seal_by_a_stolen_key_holds_by_the_round_that_named_it_long_before_the_span(
    trail: SealedTrail,
) -> None:
    """Nothing follows it in the chain of a tenant that sends no more; it is no false alarm."""
    trail.store(5)
    trail.seal()
    trail.now += DAY
    trail.store(3, tenant=trail.other)
    trail.seal()
    fresh = rotated(trail, datetime.fromtimestamp(0, UTC))
    trail.now += 9 * DAY
    since = trail.now
    trail.store(3, tenant=trail.other)
    trail.seal(fresh)
    known = Trust([trail.signer.public, fresh.public])
    part = StoredTrail(trail.database, since, since + DAY)
    verdict = Verification(part, known, (), since, since + DAY).run(trail.tenant)
    assert [finding.kind for finding in verdict.findings if trail.owns(finding)] == []
