"""Using ids once, over all API processes; what comes in together is claimed together."""

import asyncio
from datetime import datetime

from store.database import Database
from store.refresh_tokens import use_once


class SingleUse:
    """Claims ids in the store, in batches: while one batch is written, the next one collects.

    A claim costs an insert, and ClickHouse takes a hundred small ones a second badly.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[str, datetime, asyncio.Future[bool]]] = []
        self._running: asyncio.Task[None] | None = None

    async def use(self, id_: str, keep_until: datetime) -> bool:
        """Return whether this is the first use of an id, anywhere.

        Raises
        ------
        StoreUnavailable
            If nobody can say; the id counts as used then, or may.
        """
        claimed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((id_, keep_until, claimed))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._claim())
        return await claimed

    async def _claim(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            ids = [id_ for id_, _, _ in batch]
            keep_until = max(until for _, until, _ in batch)
            try:
                first = await asyncio.to_thread(use_once, self._database, ids, keep_until)
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait for it
                for _, _, claimed in batch:
                    if not claimed.done():
                        claimed.set_exception(error)
                continue
            for (_, _, claimed), is_first in zip(batch, first, strict=True):
                if not claimed.done():
                    claimed.set_result(is_first)
