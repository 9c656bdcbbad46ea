"""Retention by itself: one worker of all runs it, and not by a clock that cannot be right."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from store.database import Database
from store.events import KafkaIds
from store.ownership import Claim, Ownership
from store.retention import newest_known
from streams.partition import PartitionState
from streams.retaining import DECIDING, INTERVAL_S, Retainer


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
    ownership = Ownership(database, KafkaIds(f"cluster-{uuid4().hex[:8]}", {}), "worker")
    return Retainer(owner, database, ownership, lambda: None, None, lambda: clocks.now)


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
