"""A worker stops while a seal takes longer than the stop may."""

import asyncio
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from store.database import Database
from store.seals.sealing import Sealing
from tests.test_sealing import Sealed


async def test_a_seal_that_outlasts_the_stop_is_not_made_once_more_beside_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round that waited its turn meanwhile would begin at the same heads: two seals with one number."""
    sealed, store_answers, begun = Sealed(database, tmp_path), Event(), list[int]()
    sealed.trail.store(3)
    sealed.now += timedelta(seconds=61)
    seal = Sealing.seal

    def slow(*given: Any) -> Any:
        begun.append(1)
        store_answers.wait(10)
        return seal(*given)

    monkeypatch.setattr(Sealing, "seal", slow)
    monkeypatch.setattr("streams.sealing.CHECK_S", 0.05)
    monkeypatch.setattr("streams.sealing.LATER_S", 0.05)
    running = asyncio.create_task(sealed.sealer.run())
    await asyncio.sleep(0)
    await sealed.sealer.finish(0.3)
    await asyncio.sleep(0.1)
    running.cancel()
    store_answers.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(begun) == 1
    assert [made.sequence for made in sealed.seals()] == [1]
    assert sealed.trail.kinds() == []
