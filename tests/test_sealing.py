"""A worker seals what is new in its partitions: when, what, and what it leaves to others."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from store.database import Database, StoreUnavailable
from store.migrations import migrate
from store.ownership import Claim, Ownership
from store.seals import chains
from store.seals.anchors import Anchor, AnchorBook, read_anchors
from store.seals.chains import read_seals
from store.seals.keys import MANIFEST, SealKeys, Signer, Trust
from store.seals.seal import Seal
from store.seals.sealing import Sealing
from streams import metrics
from streams.anchoring import Anchoring, document, webhook_target
from streams.sealing import CHECK_S, Key, Sealer, SealingConfig
from streams.webhooks.sender import Sender
from tests.clickhouse_server import ClickHouseServer
from tests.conftest import REPOSITORY
from tests.sealed_trail import NOW, PARTITION, SealedTrail, batch
from tests.webhook_receiver import LOCALHOST, Answer, receiving


@dataclass
class State:
    """Stands in for a partition's."""

    claim: Claim
    first_offset: int = 0


class Owner:
    """Stands in for the pipeline: every topic of one partition, committed up to what was stored."""

    def __init__(self, trail: SealedTrail, claims: Mapping[str, Claim]) -> None:
        self._trail = trail
        self.states: dict[Key, State] = {
            (topic, trail.partition): State(claim) for topic, claim in claims.items()
        }

    def committed(self, key: Key) -> int | None:
        return self._trail.stored(key[0]) or None

    def reassign(self) -> None:
        """Be assigned the same partitions once more."""
        self.states = dict(self.states)


class Sealed:
    """A trail, and a worker's sealer for it."""

    def __init__(self, database: Database, folder: Path, trail: SealedTrail | None = None) -> None:
        self.trail = trail or SealedTrail(database)
        self.now = NOW
        self.book = AnchorBook(folder / "seals")
        ownership = Ownership(database, self.trail.ids)
        claims = {}
        for topic in self.trail.ids.topic_ids:
            term = ownership.next_terms(topic, [PARTITION])[PARTITION]
            claims[topic] = Claim(topic, PARTITION, term, term)
            ownership.claim({claims[topic]: 0}, "worker")
            self.trail.term = term
        self.owner = Owner(self.trail, claims)
        ring = SealKeys(folder / "keys")
        ring.signer = self.trail.signer
        config = SealingConfig(ring, self.book, interval_s=60, max_rows=100)
        self.sealer = Sealer(self.owner, database, self.trail.ids, config, lambda: self.now)
        self.trail.on_put.append(self.sealer.unsealed.add)

    async def after(self, seconds: float, **how: Any) -> list[int]:
        """Let time pass, seal what is due, and return the rows of the partition's seals so far."""
        self.now += timedelta(seconds=seconds)
        while await self.sealer.seal(**how):
            pass
        return [seal.rows for seal in self.seals()]

    def seals(self, tenant_id: str = "") -> list[Seal]:
        """Return a chain's seals."""
        found, _ = read_seals(self.trail.database, [tenant_id])
        return [seal for seal in found if seal.chain.cluster_id == self.trail.ids.cluster_id]


@pytest.fixture
def sealed(database: Database, tmp_path: Path) -> Sealed:
    return Sealed(database, tmp_path)


async def test_rows_are_sealed_when_the_oldest_is_a_minute_old(sealed: Sealed) -> None:
    """Not before, and all that came meanwhile with it."""
    sealed.trail.store(3)
    assert await sealed.after(30) == []
    sealed.trail.now = sealed.now
    sealed.trail.store(2, "request")
    assert await sealed.after(31) == [5]
    assert await sealed.after(30) == [5]
    assert sealed.trail.kinds() == []


async def test_rows_are_sealed_at_once_when_a_tenant_has_enough_of_them(sealed: Sealed) -> None:
    """Of many small tenants they wait for their minute."""
    sealed.trail.store(60)
    sealed.trail.store(60, tenant=sealed.trail.other)
    assert await sealed.after(1) == []
    sealed.trail.store(40)
    assert await sealed.after(1) == [160]


async def test_what_a_former_owner_stored_counts_from_the_start(sealed: Sealed) -> None:
    """It was not counted here: the store is asked when partitions are taken over, and not again."""
    sealed.trail.on_put.clear()
    sealed.trail.store(100)
    assert await sealed.after(1) == [100]


async def test_the_store_is_asked_how_much_waits_only_at_the_start(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker counts what it stores; what is not committed yet stays counted when the rest is sealed."""
    trail = sealed.trail
    trail.store(3)
    await sealed.after(61)
    monkeypatch.setattr(Sealing, "weigh", None)
    trail.now = sealed.now
    trail.store(60)
    trail.put(batch("auth", trail.tenant, range(63, 163), sealed.now))
    assert await sealed.after(61) == [3, 60]
    trail.advance("audit.auth", 100)
    assert await sealed.after(1) == [3, 60, 100]
    assert trail.kinds() == []


async def test_the_age_of_what_is_not_sealed_is_shown(sealed: Sealed) -> None:
    """And is zero when everything is."""
    sealed.trail.store(3)
    await sealed.after(40)
    assert metrics.UNSEALED_AGE._value.get() == 40
    await sealed.after(40)
    assert metrics.UNSEALED_AGE._value.get() == 0


@pytest.mark.parametrize("answers", [Sealing.make, Sealing.heads])
async def test_the_age_grows_while_the_store_is_away(
    answers: Any, sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what the alert is for: whichever question of a round has no answer."""

    def away(*args: Any) -> Any:
        raise StoreUnavailable("no answer")

    sealed.trail.store(3)
    await sealed.after(40)
    sealed.owner.reassign()
    monkeypatch.setattr(Sealing, answers.__name__, away)
    for age_s in (100, 160):
        with pytest.raises(StoreUnavailable):
            await sealed.after(60)
        assert metrics.UNSEALED_AGE._value.get() == age_s
    monkeypatch.undo()
    await sealed.after(1)
    assert metrics.UNSEALED_AGE._value.get() == 0


async def test_each_tenant_has_a_chain_and_the_partition_names_them(sealed: Sealed) -> None:
    """A tenant without new rows gets no seal; its next one begins where its last one ended."""
    trail = sealed.trail
    trail.store(2)
    trail.store(2, tenant=trail.other)
    await sealed.after(61)
    for _ in range(2):
        trail.now = sealed.now
        trail.store(4)
        await sealed.after(61)
    trail.now = sealed.now
    trail.store(1, tenant=trail.other)
    await sealed.after(61)
    assert [seal.rows for seal in sealed.seals(trail.tenant)] == [2, 4, 4]
    first, second = sealed.seals(trail.other)
    [topic] = [i for i in second.intervals if i.topic == "audit.auth"]
    assert topic.first == first.position[topic.topic_id] == 4
    assert trail.kinds() == trail.kinds(trail.other) == []


async def test_late_events_are_in_the_seal_of_when_they_came(sealed: Sealed) -> None:
    """What is new goes by offsets, not by time."""
    trail = sealed.trail
    trail.store(3)
    await sealed.after(61)
    late = batch("auth", trail.tenant, range(3, 5), sealed.now, sealed.now - timedelta(days=300))
    trail.advance("audit.auth", 2)
    trail.put(late)
    assert await sealed.after(61) == [3, 2]
    assert trail.kinds() == []


async def test_what_is_not_committed_is_not_sealed(sealed: Sealed) -> None:
    """Its chunk may be handled once more by another worker."""
    trail = sealed.trail
    trail.store(3)
    trail.put(batch("auth", trail.tenant, range(3, 6), NOW))
    assert await sealed.after(61) == [3]
    assert trail.kinds() == [("unsealed", 3)]


async def test_a_partition_is_sealed_only_by_who_has_all_of_its_topics(sealed: Sealed) -> None:
    """One owner for a chain."""
    sealed.trail.store(3)
    sealed.owner.states = dict(list(sealed.owner.states.items())[:2])
    assert await sealed.after(61) == []


async def test_the_next_owner_goes_on_from_the_head(
    sealed: Sealed, database: Database, tmp_path: Path
) -> None:
    """A chain is the partition's, not the worker's."""
    sealed.trail.store(3)
    await sealed.after(61)
    second = Sealed(database, tmp_path / "second", sealed.trail)
    second.now = sealed.now
    sealed.trail.now = sealed.now
    sealed.trail.store(2)
    assert await second.after(61) == [3, 2]
    assert [seal.sequence for seal in second.seals()] == [1, 2]
    assert sealed.trail.kinds() == []


async def test_a_store_that_took_the_seals_and_did_not_say_so_makes_no_fork(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heads are read again before anything follows them."""
    keep = chains.keep

    def took_and_failed(*given: Any) -> None:
        keep(*given)
        raise StoreUnavailable("the connection broke")

    sealed.trail.store(3)
    with monkeypatch.context() as patched:
        patched.setattr(chains, "keep", took_and_failed)
        with pytest.raises(StoreUnavailable):
            await sealed.after(61)
    sealed.trail.now = sealed.now
    sealed.trail.store(1)
    assert await sealed.after(61) == [3, 1]
    assert sealed.trail.kinds() == []


async def test_seals_that_the_store_takes_late_make_no_fork(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their insert is ended before the heads are read again, also by a store that is away for that, too."""
    keep, heads = chains.keep, Sealing.heads
    late: list[tuple[Any, ...]] = []
    ended: list[str] = []

    def unanswered(*given: Any) -> None:
        if late or ended:
            return keep(*given)
        late.append(given)
        raise StoreUnavailable("no answer")

    def end(_: Ownership, query_id: str) -> None:
        ended.append(query_id)
        if len(ended) == 1:
            raise StoreUnavailable("away")
        late.clear()

    def read_and_let_in(*given: Any) -> Any:
        found = heads(*given)
        while late:
            keep(*late.pop())
        return found

    monkeypatch.setattr(chains, "keep", unanswered)
    monkeypatch.setattr(Ownership, "end_insert", end)
    sealed.trail.store(3)
    for patched in (heads, read_and_let_in, read_and_let_in):
        monkeypatch.setattr(Sealing, "heads", patched)
        with suppress(StoreUnavailable):
            await sealed.after(61)
    assert await sealed.after(61) == [3]
    assert len(set(ended)) == 1
    assert sealed.trail.kinds() == []


async def test_a_store_that_is_away_is_caught_up_with(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out, and nothing is sealed twice."""

    def away(*given: Any) -> None:
        raise StoreUnavailable("away")

    sealed.trail.store(3)
    with monkeypatch.context() as patched:
        patched.setattr(chains, "keep", away)
        with pytest.raises(StoreUnavailable):
            await sealed.after(61)
    assert await sealed.after(61) == [3]


async def test_a_store_that_is_away_is_asked_less_often(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it answers, what falls due is looked for all the time."""
    looks = list[str]()

    async def sleep(seconds: float) -> None:
        looks.append("soon" if seconds == CHECK_S else "later")
        if len(looks) == 3:
            raise asyncio.CancelledError

    def away(*given: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr("streams.sealing.asyncio.sleep", sleep)
    sealed.trail.store(3)
    assert await sealed.after(0) == []
    with suppress(asyncio.CancelledError):
        await sealed.sealer.run()
    assert looks == ["soon"] * 3
    looks.clear()
    sealed.now += timedelta(seconds=61)
    monkeypatch.setattr(chains, "keep", away)
    with suppress(asyncio.CancelledError):
        await sealed.sealer.run()
    assert looks == ["soon", "later", "later"]


async def test_more_than_is_read_at_once_becomes_several_seals(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store from before there were seals is caught up with in pieces."""
    monkeypatch.setattr("streams.sealing.ROWS_AT_ONCE", 40)
    sealed.trail.store(100)
    rows = await sealed.after(61)
    assert sum(rows) == 100
    assert len(rows) >= 3
    assert sealed.trail.kinds() == []


async def test_a_chain_that_lost_its_end_is_noticed_by_who_remembers_it(sealed: Sealed) -> None:
    """The remembered head stays as an anchor, although the chain goes on."""
    trail = sealed.trail
    for _ in range(2):
        trail.now = sealed.now
        trail.store(2)
        await sealed.after(61)
    lost = sealed.seals()[1]
    trail.alter("DELETE FROM seals WHERE kafka_cluster_id = {cluster:String} AND sequence = 2")
    sealed.owner.reassign()
    trail.now = sealed.now
    trail.store(1)
    await sealed.after(61)
    assert metrics.SEAL_CHAINS_CUT._value.get() == 1
    anchors = [anchor.as_dict() for anchor in sealed.book.all()]
    assert lost.digest in [anchor["digest"] for anchor in anchors]
    assert ("forked", 0) in trail.kinds(anchors=anchors)


async def test_a_worker_that_was_replaced_cannot_fork_the_chain(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    """It still believes that the partition is its own; the server refuses its seals, as its events."""
    database = Database.server(clickhouse_server.url)
    migrate(database)
    try:
        hung = Sealed(database, tmp_path / "hung")
        hung.trail.store(3)
        await hung.after(61)
        next_owner = Sealed(database, tmp_path / "next", hung.trail)
        hung.trail.now = hung.now
        hung.trail.store(2)
        assert await hung.after(61) == [3]
        next_owner.now = hung.now
        assert await next_owner.after(61) == [3, 2]
        assert await hung.after(61) == [3, 2]
        assert hung.trail.kinds() == []
    finally:
        database.close()


_LOOP = """
import sys
from pathlib import Path
from store.database import Database
from store.migrations import migrate
from store.seals.keys import SealKeys
from tests.sealed_trail import SealedTrail
root = Path(sys.argv[1])
database = Database.embedded(root / "clickhouse")
migrate(database)
trail = SealedTrail(database, mark="killed")
trail.signer = SealKeys(root / "keys").signer
trail.resume()
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    trail.store(20)
    trail.store(5, "request", tenant=trail.other)
    trail.seal()
print(trail.kinds(), trail.kinds(trail.other), trail.count(), len(trail.heads), flush=True)
"""


@pytest.mark.thorough
def test_a_process_that_is_killed_between_two_seals_leaves_no_gap_and_no_fork(tmp_path: Path) -> None:
    """Killed at any moment, five times; whoever comes next goes on from what is stored."""
    command = [sys.executable, "-c", _LOOP, str(tmp_path)]
    for delay in (0.05, 0.15, 0.3, 0.45, 0.6):
        with subprocess.Popen([*command, "100000"], cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(delay)
            process.kill()
    done = subprocess.run([*command, "3"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = done.stdout.splitlines()[-1]
    assert found.startswith("[] [] "), found


async def test_anchors_go_to_each_target_once(sealed: Sealed) -> None:
    """A target that failed gets them the next time; a head that has not moved is not sent again."""
    sealed.trail.store(3)
    await sealed.after(61)
    sent: list[bytes] = []
    failing = [True]

    async def take(body: bytes) -> None:
        if failing:
            failing.pop()
            raise ConnectionError("refused")
        sent.append(body)

    anchoring = Anchoring(
        sealed.sealer.anchors, sealed.book, lambda: sealed.trail.signer, 600, {"topic": take}
    )
    for _ in range(3):
        await anchoring.anchor()
    assert len(sent) == 1
    assert sealed.seals()[0].digest.encode() in sent[0]
    assert len(sealed.book.log.read_text().splitlines()) == 1


async def test_a_webhook_gets_signed_anchors_and_a_refusal_is_an_error(sealed: Sealed) -> None:
    """Over real HTTP, to the operator's own receiver."""
    sealed.trail.store(3)
    await sealed.after(61)
    sender = Sender(allow=LOCALHOST)
    with receiving() as receiver:
        send = webhook_target(receiver.url(), sender)
        receiver.answers = [Answer(500)]
        with pytest.raises(ConnectionError, match="500"):
            await send(b"{}")
        await send(document(sealed.sealer.anchors(), sealed.trail.signer))
        given = json.loads(receiver.received[-1].body)
    await sender.aclose()
    signed = json.dumps(given["anchors"], separators=(",", ":")).encode()
    trust = Trust([sealed.trail.signer.public])
    assert trust.verifies(given["key_id"], MANIFEST, signed, given["signature"]) is True


def test_a_document_of_anchors_can_be_read_back_as_a_file(tmp_path: Path) -> None:
    """What a webhook or a topic was sent, one a line, is what `verify --anchors` takes."""
    anchor = Anchor("cluster", 3, 7, "ab" * 32, "2026-03-01T00:00:00.000Z")
    file = tmp_path / "anchors"
    file.write_bytes(document([anchor], Signer.new()) + b"\n")
    assert list(read_anchors(file)) == [anchor]


def test_a_document_of_anchors_that_was_changed_is_refused(tmp_path: Path) -> None:
    """It is signed; one of a key that nobody here knows can do no more than raise an alarm, and is read."""
    signer = Signer.new()
    anchor = Anchor("cluster", 3, 7, "ab" * 32, "2026-03-01T00:00:00.000Z")
    file = tmp_path / "anchors"
    file.write_bytes(document([anchor], signer) + b"\n")
    assert list(read_anchors(file, Trust([signer.public]))) == [anchor]
    assert list(read_anchors(file, Trust([Signer.new().public]))) == [anchor]
    file.write_bytes(file.read_bytes().replace(b'"sequence":7', b'"sequence":6'))
    with pytest.raises(ValueError, match="not what the key"):
        list(read_anchors(file, Trust([signer.public])))


def test_a_line_that_a_crash_left_half_written_is_passed_over(tmp_path: Path) -> None:
    """Verifying goes on, and what is anchored next begins a line of its own."""
    book = AnchorBook(tmp_path)
    first, second, third = (Anchor("cluster", 3, n, "ab" * 32, "") for n in (1, 2, 3))
    book.append([first, second])
    whole = book.log.read_bytes()
    book.log.write_bytes(whole[:-20])
    assert book.all() == [first]
    book.append([third])
    assert book.all() == [first, third]
    book.log.write_bytes(b"not an anchor\n" + whole)
    with pytest.raises(ValueError, match="line 1"):
        book.all()
