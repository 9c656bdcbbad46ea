"""Backtests in the background: one at a time for a tenant, a few at a time in all."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from api.v1.parts import Parts
from api.v1.problems import Problem
from store.backtests import StoredBacktest, put_backtest

log = structlog.get_logger()
MAX_RUNNING: Final = 2
# Whoever runs one ends it after so long.
TIME_LIMIT_S: Final = 900.0
# And writes how it ended soon after; hosts' clocks may differ by minutes.
GONE_AFTER: Final = timedelta(seconds=TIME_LIMIT_S) + timedelta(minutes=5)
_STOPPED: Final = {"error": "the process ended: begin it again"}
_GONE: Final = {"error": "the process ended, or could not write what it found: begin it again"}
# Runs a tenant's backtest and returns what it found.
RunBacktest = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class BacktestFailed(Exception):
    """A backtest has found nothing; the message is for whoever asked for it."""


def as_it_stands(backtest: StoredBacktest, now: datetime) -> StoredBacktest:
    """Return a backtest; one that would have ended long since has failed, whatever the store says.

    A process that is killed writes no more, and nobody knows of another's processes which are alive.
    """
    if backtest.status != "running" or now - backtest.created_at <= GONE_AFTER:
        return backtest
    return replace(backtest, status="failed", result=_GONE)


class Backtests:
    """The backtests of this process."""

    def __init__(self, parts: Parts, run: RunBacktest) -> None:
        self._parts = parts
        self._run = run
        # None: about to begin.
        self._running: dict[str, asyncio.Task[None] | None] = {}

    async def begin(self, tenant_id: str, request: dict[str, Any], by: str) -> StoredBacktest:
        """Begin one.

        Raises
        ------
        Problem
            If one of the tenant's runs already, or too many of others'.
        """
        if tenant_id in self._running:
            raise Problem("conflict", "a backtest of the tenant is running: wait until it has finished")
        if len(self._running) >= MAX_RUNNING:
            raise Problem("unavailable", "other backtests are running", headers={"Retry-After": "30"})
        now = self._parts.clock()
        begun = StoredBacktest(tenant_id, uuid.uuid4().hex, "running", request, None, by, now, now)
        self._running[tenant_id] = None
        try:
            await asyncio.to_thread(put_backtest, self._parts.database, begun)
        except BaseException:
            del self._running[tenant_id]
            raise
        task = asyncio.create_task(self._finish(begun))
        self._running[tenant_id] = task
        task.add_done_callback(lambda _: self._running.pop(tenant_id, None))
        return begun

    async def _finish(self, begun: StoredBacktest) -> None:
        try:
            result = await self._run(begun.tenant_id, begun.request)
            ended = replace(begun, status="finished", result=result)
        except BacktestFailed as error:
            ended = replace(begun, status="failed", result={"error": str(error)})
        except asyncio.CancelledError:  # by `stop`, which waits for this to be written
            ended = replace(begun, status="failed", result=_STOPPED)
        except Exception:
            log.exception("backtest_failed", backtest_id=begun.backtest_id)
            ended = replace(begun, status="failed", result={"error": "something of ours failed; see the log"})
        # Later than the first row, whatever the clock says: the later one holds.
        later = max(self._parts.clock(), begun.created_at + timedelta(milliseconds=1))
        await asyncio.to_thread(put_backtest, self._parts.database, replace(ended, changed_at=later))

    async def stop(self) -> None:
        """Cancel what runs; it has failed then."""
        tasks = [task for task in self._running.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
