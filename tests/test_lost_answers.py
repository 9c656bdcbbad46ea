"""An insert whose answer is lost: what it stored is found, and only the rest is stored."""

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from test_recovery import Cluster

from store.database import Database, Guard
from streams.groups import GroupWriter


class LosesAnswer:
    """Stands before the store: of the first insert of events it stores so many blocks, and breaks off."""

    def __init__(self, database: Database, first: Sequence[bytes]) -> None:
        self._insert = database._insert
        self._first = first
        self.lost = 0

    def __call__(
        self, table: str, columns: Sequence[str], payload: bytes, fmt: str, guard: Guard | None
    ) -> None:
        if table == "events" and not self.lost:
            self.lost += 1
            for stored in self._first:
                self._insert(table, columns, stored, fmt, guard)
            raise ConnectionResetError("connection reset by peer")
        self._insert(table, columns, payload, fmt, guard)


@pytest.mark.parametrize("stored", ["nothing", "a part", "everything"])
async def test_rows_are_there_once_whatever_an_insert_without_an_answer_had_stored(
    server: Database, stored: str
) -> None:
    """The group is acknowledged, and each of its rows is in the store once."""
    cluster = Cluster(server)
    state = await cluster.take_over(0)
    chunks = [cluster.handle(state, 0, 4), cluster.handle(state, 4, 10)]
    held = chunks[: ["nothing", "a part", "everything"].index(stored)]
    blocks = cluster.writer.encode_events([(handled.unstored, handled.claim) for handled in held])
    losing = LosesAnswer(server, [block.payload for block in blocks])
    groups = GroupWriter(cluster.writer, worker_id="w", max_rows=100, max_wait_s=0.01, max_pending_rows=300)
    groups.begin(1)
    acknowledged: list[int] = []

    def acknowledge(n: int) -> Any:
        return lambda: acknowledged.append(n)

    with patch.object(server, "_insert", losing):
        for n, handled in enumerate(chunks):
            await groups.add(handled, [], acknowledge(n))
        running = asyncio.create_task(groups.run())
        async with asyncio.timeout(20):
            await groups.drained()
    running.cancel()
    assert (losing.lost, acknowledged, cluster.rows()) == (1, [0, 1], 10)
