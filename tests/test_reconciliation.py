"""Reconciliation finds what was lost, doubled or handled twice, and nothing where all is well."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from detectors.registry import Detector
from schemas.tenant import Tenant
from store.database import Database
from store.reconciliation import Gap, Reconciliation, reconcile
from store.retention import run_retention
from streams import metrics
from streams.accounts import dead_letter_rows, ledger_rows
from streams.chunk import Handled
from streams.partition import PartitionState
from streams.reconciling import Reconciler
from tests.test_recovery import PARTITION, TENANT, TOPIC, Cluster


class Books(Cluster):
    """A partition whose chunks are stored and accounted for as the group writer does."""

    def keep(self, *chunks: Handled) -> None:
        for handled in chunks:
            self.store(handled)
            self.writer.insert_rows("dead_letters", dead_letter_rows(handled))
        self.writer.insert_rows("ledger", ledger_rows(chunks, "worker-1"))

    async def fill(self, state: PartitionState, first: int, stop: int) -> None:
        self.keep(*(self.handle(state, at, at + 2) for at in range(first, stop, 2)))

    def checked(self, committed: int | None = None) -> Reconciliation:
        given = None if committed is None else {PARTITION: committed}
        return reconcile(self.database, self.ids, TOPIC, given)

    def gaps(self, committed: int | None = None) -> list[str]:
        return [gap.kind for gap in self.checked(committed).gaps]


class Renamed:
    """A detector as another version names it."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.name = f"{detector.name}_2"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def test_a_partition_in_order_has_no_gap(books: Books) -> None:
    """Intervals meet up to the committed offset, and the rows are there."""
    await books.fill(await books.take_over(0), 0, 10)
    found = books.checked(10)
    assert found.gaps == []
    (account,) = found.accounts
    assert (account.next_offset, account.rows, account.rejected) == (10, 10, 0)


async def test_what_an_owner_left_unfinished_is_accounted_for_once(books: Books) -> None:
    """It had stored offsets 6 to 9 and kept their account, and died before the commit."""
    first = await books.take_over(0)
    await books.fill(first, 0, 6)
    await books.fill(first, 6, 10)
    await books.fill(await books.take_over(6, generation=2), 6, 14)
    found = books.checked(14)
    assert found.gaps == []
    assert found.accounts[0].rows == 14


async def test_an_interval_without_an_account_is_a_gap(books: Books) -> None:
    """Somebody lost offsets 4 and 5, or Kafka's retention did."""
    await books.fill(await books.take_over(0), 0, 4)
    await books.fill(await books.take_over(4, generation=2, earliest=6), 6, 8)
    assert books.checked().gaps == [
        Gap(TOPIC, PARTITION, "offsets_missing", "offsets 4 to 5 are in no account")
    ]


async def test_a_row_that_is_gone_is_missed(books: Books) -> None:
    """Whoever deleted it, it is said, with where it was."""
    await books.fill(await books.take_over(0), 0, 4)
    books.database.command(
        "DELETE FROM events WHERE kafka_cluster_id = {c:String} AND kafka_offset = 2",
        {"c": books.ids.cluster_id},
    )
    assert books.gaps() == ["rows_missing", "evaluated_differs"]


async def test_a_row_that_is_there_twice_is_found(books: Books) -> None:
    """An insert that was repeated although it had been done."""
    state = await books.take_over(0)
    handled = books.handle(state, 0, 2)
    books.keep(handled)
    books.store(handled)
    assert books.gaps() == ["rows_extra", "evaluated_differs"]


class Owner:
    """Stands in for the pipeline: one partition, committed up to an offset."""

    def __init__(self, state: PartitionState, at: int) -> None:
        self.states = {(TOPIC, PARTITION): state}
        self.at = at

    def committed(self, key: tuple[str, int]) -> int:
        return self.at


async def test_rows_that_are_there_twice_are_collapsed(books: Books) -> None:
    """One of each stays, whatever else is in its part."""
    state = await books.take_over(0)
    handled, more = books.handle(state, 0, 4), books.handle(state, 4, 6)
    books.keep(handled, more)
    books.store(handled)
    assert await Reconciler(Owner(state, 6), books.database, books.ids).check() == []
    assert (books.rows(), books.gaps(6)) == (6, [])


async def test_a_gap_is_told_until_a_check_finds_it_closed(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after it is in order, and the alert fires only for what lasts five minutes."""
    now_s = 10_000.0
    monkeypatch.setattr("streams.reconciling.monotonic", lambda: now_s)
    state = await books.take_over(0)
    lost = books.handle(state, 0, 2)
    books.writer.insert_rows("ledger", ledger_rows([lost], "worker-1"))
    owner = Owner(state, 2)
    reconciler = Reconciler(owner, books.database, books.ids)

    async def told() -> list[str]:
        gaps = [gap.kind for gap in await reconciler.check()]
        assert metrics.RECONCILIATION_GAPS._value.get() == len(gaps)
        return gaps

    assert await told() == ["rows_missing", "evaluated_differs"]
    for stop in (4, 6, 8):
        books.keep(books.handle(state, stop - 2, stop))
        owner.at = stop
        now_s += 60
        assert await told() == ["rows_missing", "evaluated_differs"]
    books.store(lost)
    now_s += 120
    assert await told() == []


async def test_an_account_that_is_written_twice_counts_once(books: Books) -> None:
    """Its insert was repeated because nobody knew whether it had been done."""
    handled = books.handle(await books.take_over(0), 0, 2)
    books.keep(handled)
    books.writer.insert_rows("ledger", ledger_rows([handled], "worker-1"))
    assert books.gaps() == []


async def test_committed_offsets_that_no_account_reaches_are_a_gap(books: Books) -> None:
    """Somebody moved the consumer group past them."""
    await books.fill(await books.take_over(0), 0, 4)
    assert books.gaps(6) == ["not_handled"]


async def test_what_is_stored_and_not_accounted_for_yet_is_no_gap(books: Books) -> None:
    """Rows are stored first, then their account: reconciliation runs beside the workers."""
    state = await books.take_over(0)
    await books.fill(state, 0, 4)
    books.store(books.handle(state, 4, 6))
    assert books.gaps(4) == []


async def test_what_retention_removed_is_accounted_for(books: Books) -> None:
    """It is gone by the tenant's own setting."""
    await books.fill(await books.take_over(0), 0, 4)
    tenant = Tenant(tenant_id=TENANT, organization_id="o", name="n", retention_days=1)
    now = datetime.now(UTC)
    books.database.insert_rows(
        "tenants", [{"tenant_id": TENANT, "version": 1, "body": tenant.model_dump_json(), "applied_at": now}]
    )
    run_retention(books.database, now + timedelta(days=2))
    found = books.checked(4)
    assert found.gaps == []
    assert found.accounts[0].removed == 4


async def test_an_owner_with_other_detectors_is_no_gap(books: Books) -> None:
    """An upgrade adds, removes or renames one: what its predecessor wrote does not name it."""
    await books.fill(await books.take_over(0), 0, 4)
    upgraded = await books.take_over(4, generation=2)
    (detector, state), *others = upgraded.detectors
    upgraded.detectors = (Renamed(detector), state), *others
    await books.fill(upgraded, 4, 10)
    assert books.gaps(10) == []


async def test_a_detector_that_one_of_an_owners_chunks_did_not_reach_is_found(books: Books) -> None:
    """In none of the intervals that an owner accounts for it may be missing."""
    state = await books.take_over(0)
    await books.fill(state, 0, 4)
    state.detectors = state.detectors[1:]
    await books.fill(state, 4, 6)
    assert [(gap.kind, gap.detail) for gap in books.checked(6).gaps] == [
        ("evaluated_differs", "of 6 events evaluated, failed_login was handed 4")
    ]


async def test_detectors_that_are_handed_less_than_was_judged_are_found(books: Books) -> None:
    """Whatever stands between admission and them."""
    state = await books.take_over(0)
    state.locate = lambda batch: batch.select(np.array([0]))
    await books.fill(state, 0, 4)
    assert [gap.detail for gap in books.checked(4).gaps] == [
        f"of 4 events evaluated, {name} was handed 2" for name in ("custom_rule", "failed_login")
    ]


async def test_a_later_check_looks_at_what_is_new(books: Books) -> None:
    """And at where it joins what was checked before."""
    state = await books.take_over(0)
    await books.fill(state, 0, 4)
    reached = {PARTITION: books.checked(4).accounts[0].next_offset}
    await books.fill(state, 4, 8)
    found = reconcile(books.database, books.ids, TOPIC, None, reached)
    assert (found.gaps, found.accounts[0].rows) == ([], 4)
    late = reconcile(books.database, books.ids, TOPIC, None, {PARTITION: 3})
    assert [gap.kind for gap in late.gaps] == ["offsets_missing"]
