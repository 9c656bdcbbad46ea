"""What was checked is kept as a total: later checks begin there, and find what a check of all would."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from store import ledger_totals
from store.database import Database
from store.ledger_totals import KEPT, newest_totals, prune_ledger
from store.ownership import Claim
from store.reconciliation import reconcile
from streams import reconciling
from streams.accounts import ledger_rows
from streams.partition import PartitionState
from streams.reconciling import Reconciler
from tests.test_reconciliation import Books, Owner
from tests.test_recovery import PARTITION, TOPIC


class Checked(Books):
    """Books that a worker checks."""

    async def fill(self, state: PartitionState, first: int, stop: int) -> None:
        """Account for each two offsets by themselves."""
        for at in range(first, stop, 2):
            self.keep(self.handle(state, at, at + 2))

    async def check(self, committed: int) -> list[str]:
        """Check as a worker that has just started; return what is wrong."""
        owner = Owner(PartitionState("auth", 1, Claim(TOPIC, PARTITION, 1, 1)), committed)
        return [gap.kind for gap in await Reconciler(owner, self.database, self.ids).check()]

    def next_offset(self) -> int | None:
        """Return where the newest total that holds ends."""
        found = newest_totals(self.database, self.ids, TOPIC)
        return found[PARTITION].next_offset if found else None

    def remove(self, table: str, condition: str) -> None:
        where = f"kafka_cluster_id = {{c:String}} AND {condition}"
        self.database.command(f"DELETE FROM {table} WHERE {where}", {"c": self.ids.cluster_id})

    def offsets(self, table: str, column: str) -> list[int]:
        rows = self.database.query(
            f"SELECT DISTINCT {column} AS at FROM {table} WHERE kafka_cluster_id = {{c:String}} ORDER BY at",
            {"c": self.ids.cluster_id},
        )
        return [row["at"] for row in rows]


@pytest.fixture
def books(database: Database) -> Checked:
    return Checked(database)


@pytest.fixture
def one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step be of one ledger row, and one be worth deleting."""
    monkeypatch.setattr(ledger_totals, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(ledger_totals, "WORTH_DELETING", 1)


async def test_what_was_checked_is_not_read_again(books: Checked) -> None:
    """Its ledger rows need not be there any more, whoever checks."""
    state = await books.take_over(0)
    await books.fill(state, 0, 6)
    assert await books.check(6) == []
    books.remove("ledger", "first_offset < 6")
    await books.fill(state, 6, 10)
    assert (await books.check(10), books.gaps(10)) == ([], [])
    assert books.checked().accounts[0].rows == 10


async def test_rows_that_go_after_they_were_checked_are_missed(books: Checked) -> None:
    """And those that come are found: the rows are counted all over again."""
    state = await books.take_over(0)
    handled = books.handle(state, 0, 4)
    books.keep(handled)
    await books.fill(state, 4, 8)
    assert await books.check(8) == []
    books.remove("events", "kafka_offset = 2")
    assert await books.check(8) == ["rows_missing", "evaluated_differs"]
    books.store(handled)
    assert books.gaps(8) == ["rows_extra", "evaluated_differs"]


async def test_only_what_adds_up_and_is_committed_is_kept(books: Checked) -> None:
    """A total must not hide what was wrong before it."""
    state = await books.take_over(0)
    lost = books.handle(state, 0, 2)
    books.writer.insert_rows("ledger", ledger_rows([lost], "worker-1"))
    await books.fill(state, 2, 8)
    assert await books.check(6) == ["rows_missing", "evaluated_differs"]
    assert books.next_offset() is None
    books.store(lost)
    assert await books.check(6) == []
    assert books.next_offset() == 6
    assert await books.check(10) == ["not_handled"]
    assert books.next_offset() == 8


async def test_after_an_upgrade_totals_are_kept_as_before(books: Checked) -> None:
    """What the old version left and the new one wrote with another detector are checked together."""
    state = await books.take_over(0)
    await books.fill(state, 0, 4)
    assert await books.check(4) == []
    await books.fill(state, 4, 6)
    upgraded = await books.take_over(6, generation=2)
    upgraded.detectors = upgraded.detectors[1:]
    await books.fill(upgraded, 6, 8)
    assert await books.check(8) == []
    assert books.next_offset() == 8


async def test_an_interval_that_is_missing_after_a_total_is_a_gap(books: Checked) -> None:
    """Where the next owner began beyond it."""
    await books.fill(await books.take_over(0), 0, 4)
    assert await books.check(4) == []
    await books.fill(await books.take_over(4, generation=2, earliest=6), 6, 8)
    assert await books.check(8) == ["offsets_missing"]


async def test_an_account_of_before_that_is_written_after_a_total_is_found(books: Checked) -> None:
    """Somebody handled once more what was committed."""
    state = await books.take_over(0)
    await books.fill(state, 0, 6)
    again = books.handle(state, 6, 8)
    books.keep(again)
    assert await books.check(8) == []
    [row] = ledger_rows([again], "worker-1")
    books.writer.insert_rows("ledger", [row | {"first_offset": 3, "last_offset": 5}])
    assert "offsets_twice" in await books.check(8)


async def test_a_group_that_is_set_back_goes_on_from_a_total_of_before_that(books: Checked) -> None:
    """What its new owner handles once more counts in place of what the later total has."""
    first = await books.take_over(0)
    await books.fill(first, 0, 4)
    assert await books.check(4) == []
    await books.fill(first, 4, 10)
    assert await books.check(10) == []
    second = await books.take_over(6, generation=2)
    assert books.next_offset() == 4
    await books.fill(second, 6, 12)
    assert await books.check(12) == []
    assert books.checked(12).accounts[0].rows == 12
    assert books.next_offset() == 12


async def test_a_long_ledger_is_checked_in_steps(books: Checked, one_at_once: None, monkeypatch: Any) -> None:
    """So that the first check after an upgrade, of months, ends."""
    steps: list[dict[int, int]] = []

    def looked(database: Any, ids: Any, topic: str, committed: dict[int, int], **how: Any) -> Any:
        steps.append(committed)
        return reconcile(database, ids, topic, committed, **how)

    monkeypatch.setattr(reconciling, "reconcile", looked)
    state = await books.take_over(0)
    await books.fill(state, 0, 6)
    assert await books.check(6) == []
    assert [step[PARTITION] for step in steps] == [2, 4, 6]
    await books.fill(state, 6, 12)
    books.remove("events", "kafka_offset = 9")
    steps.clear()
    assert await books.check(12) == ["rows_missing", "evaluated_differs"]
    assert [step[PARTITION] for step in steps] == [8, 10, 12]
    assert books.next_offset() == 8


async def test_ledger_rows_that_are_in_a_total_go_after_weeks(books: Checked, one_at_once: None) -> None:
    """Not the one that says where the ledger ends, nor what was never found in order."""
    state = await books.take_over(0)
    await books.fill(state, 0, 6)
    assert await books.check(6) == []
    await books.fill(state, 6, 8)
    for now, first in ((datetime.now(UTC), 0), (datetime.now(UTC) + KEPT + timedelta(minutes=1), 4)):
        prune_ledger(books.database, books.ids, TOPIC, now)
        assert books.offsets("ledger", "first_offset") == [*range(first, 8, 2)]
    assert books.offsets("ledger_totals", "next_offset") == [6]
    assert (await books.check(8), books.gaps(8)) == ([], [])


async def test_a_partition_in_which_nothing_came_does_not_have_all_of_it_checked_each_minute(
    books: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new begins there at the committed offset."""
    owner = Owner(await books.take_over(0), 0)
    reconciler = Reconciler(owner, books.database, books.ids)
    assert await reconciler.check() == []
    with monkeypatch.context() as patched:
        patched.setattr(Reconciler, "_check_whole", None)
        assert await reconciler.check() == []
    await books.fill(await books.take_over(0, generation=2), 0, 4)
    owner.at = 4
    with monkeypatch.context() as patched:
        patched.setattr(Reconciler, "_check_whole", None)
        assert await reconciler.check() == []


async def test_a_partition_that_another_worker_has_checked_is_not_checked_from_its_beginning(
    books: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance would else have every worker read all rows."""
    state = await books.take_over(0)
    await books.fill(state, 0, 4)
    owner = Owner(state, 0)
    owner.states = {(TOPIC, PARTITION + 1): state}
    reconciler = Reconciler(owner, books.database, books.ids)
    assert await reconciler.check() == []
    assert await books.check(4) == []
    lost = books.handle(state, 4, 6)
    books.writer.insert_rows("ledger", ledger_rows([lost], "worker-1"))
    owner.states, owner.at = {(TOPIC, PARTITION): state}, 6
    with monkeypatch.context() as patched:
        patched.setattr(Reconciler, "_check_whole", None)
        with pytest.raises(TypeError):  # what is new there is looked at, and has a gap
            await reconciler.check()
        books.store(lost)
        assert await reconciler.check() == []
    assert await reconciler.check() == []
