"""Retention by itself: one worker of all runs it, and not by a clock that cannot be right."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from store.database import Database, StoreUnavailable
from store.events import KafkaIds
from store.ownership import Claim, Ownership
from store.retention import newest_known
from streams import metrics
from streams.partition import PartitionState
from streams.retaining import DECIDING, INTERVAL_S, MAX_ABSENCE, Retainer


class Clocks:
    """Both clocks, in the test's hand."""

    def __init__(self, now: datetime) -> None:
        self.now, self.monotonic_s = now, 1_000_000.0

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.monotonic_s += seconds


@pytest.fixture
def clocks(database: Database, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    database.insert_rows("retention_finished", [{"run_at": datetime.now(UTC)}])
    known = newest_known(database)
    assert known is not None
    made = Clocks(known + timedelta(days=1))
    monkeypatch.setattr("streams.retaining.monotonic", lambda: made.monotonic_s)
    return made


class Member:
    """Stands in for the pipeline: it owns the deciding partition, or another."""

    def __init__(self, *owned: tuple[str, int]) -> None:
        self.states = {key: PartitionState("auth", 12, Claim(*key, 1, 1)) for key in owned}


def retainer(owner: Member, database: Database, clocks: Clocks) -> Retainer:
    ownership = Ownership(database, KafkaIds(f"cluster-{uuid4().hex[:8]}", {}))
    return Retainer(owner, database, ownership, lambda: None, None, lambda: clocks.now)


@pytest.mark.thorough
async def test_of_all_workers_the_owner_of_one_partition_runs_it(database: Database, clocks: Clocks) -> None:
    """Two at once would both count what neither has deleted yet; who takes over, runs it at its next turn."""
    here, there = Member(DECIDING), Member((DECIDING[0], 1))
    first, second = retainer(here, database, clocks), retainer(there, database, clocks)
    assert [await first.turn(), await second.turn()] == [False, False], "they only look at the clock"
    assert [await first.turn(), await second.turn()] == [True, False]
    here.states, there.states = there.states, here.states
    assert [await first.turn(), await second.turn()] == [False, True]


async def test_it_runs_once_a_day(database: Database, clocks: Clocks) -> None:
    """Not at each turn."""
    daily = retainer(Member(DECIDING), database, clocks)
    ran = []
    for pass_s in (0, 60, 60, INTERVAL_S - 60, 60):
        clocks.pass_s(pass_s)
        ran.append(await daily.turn())
    assert ran == [False, True, False, True, False]


async def test_a_clock_far_ahead_at_the_start_deletes_nothing_for_a_day(
    database: Database, clocks: Clocks
) -> None:
    """By a wrong year the whole trail has aged out; a machine that was merely off waits a day."""
    clocks.now += timedelta(days=10 * 365)
    doubtful = retainer(Member(DECIDING), database, clocks)
    assert [await doubtful.turn(), await doubtful.turn()] == [False, False]
    clocks.now -= timedelta(days=10 * 365)
    clocks.pass_s(INTERVAL_S)
    assert await doubtful.turn()


@pytest.mark.parametrize("store", ["database", "server"])
async def test_a_clock_that_jumps_far_ahead_while_it_runs_deletes_nothing_for_a_day(
    request: pytest.FixtureRequest, store: str, clocks: Clocks
) -> None:
    """Beside a server too, whose clock may be the same machine's; a turn that is not due sees it as well."""
    database: Database = request.getfixturevalue(store)
    if database.shared:
        clocks.now = datetime.now(UTC)
    daily = retainer(Member(DECIDING), database, clocks)
    assert [await daily.turn(), await daily.turn()] == [False, True]
    clocks.pass_s(INTERVAL_S - 60)
    right = clocks.now
    clocks.now += MAX_ABSENCE + timedelta(seconds=1)
    assert not await daily.turn()
    clocks.pass_s(INTERVAL_S - 60)
    assert not await daily.turn(), "nor when it would have been due"
    assert metrics.CLOCK_DOUBTED._value.get() == 1
    clocks.now = right if not database.shared else datetime.now(UTC)
    clocks.monotonic_s += 60
    assert await daily.turn()
    assert metrics.CLOCK_DOUBTED._value.get() == 0


async def test_weekends_asleep_are_no_jump(
    database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock went on, the other one stood still; each is looked at by itself."""
    monkeypatch.setattr("streams.retaining.run_retention", lambda *_: None)
    daily = retainer(Member(DECIDING), database, clocks)
    assert [await daily.turn(), await daily.turn()] == [False, True]
    for _ in range(2):
        clocks.now += MAX_ABSENCE
        clocks.pass_s(INTERVAL_S / 2)
        ran = await daily.turn()
    assert ran


async def test_a_machine_that_sleeps_a_week_between_hours_of_work_comes_to_it(
    database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it wakes the clock has jumped; the day that this costs is counted over all its hours."""
    monkeypatch.setattr("streams.retaining.run_retention", lambda *_: None)
    daily = retainer(Member(DECIDING), database, clocks)
    assert [await daily.turn(), await daily.turn()] == [False, True]
    ran = []
    for _ in range(4):
        clocks.now += timedelta(days=7)
        ran.append(await daily.turn())
        clocks.pass_s(INTERVAL_S / 3)
    assert ran == [False, False, False, True]


async def test_a_clock_that_jumps_while_the_store_is_away_at_the_start_is_not_believed(
    database: Database, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest that the store knows may be of after the jump when it can be asked."""
    daily = retainer(Member(DECIDING), database, clocks)

    def away(_: Database) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("streams.retaining.newest_known", away)
        with pytest.raises(StoreUnavailable):
            await daily.turn()
    clocks.now += timedelta(days=10 * 365)
    monkeypatch.setattr("streams.retaining.newest_known", lambda _: clocks.now)
    assert [await daily.turn(), await daily.turn()] == [False, False]


@pytest.mark.parametrize("skew", [timedelta(minutes=-6), timedelta(minutes=6)])
async def test_a_worker_whose_clock_is_not_the_servers_deletes_nothing(
    server: Database, clocks: Clocks, skew: timedelta
) -> None:
    """One of the two is wrong, and nobody knows which; it tries again in an hour."""
    clocks.now = datetime.now(UTC) + skew
    skewed = retainer(Member(DECIDING), server, clocks)
    assert [await skewed.turn(), await skewed.turn()] == [False, False]
    clocks.now = datetime.now(UTC)
    assert not await skewed.turn()
    clocks.monotonic_s += 3_600
    assert await skewed.turn()
