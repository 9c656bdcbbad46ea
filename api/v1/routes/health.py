"""Whether the API is there."""

import asyncio
from typing import Final, Literal

from fastapi import Request
from pydantic import BaseModel

from api.v1.parts import Parts
from api.v1.routing import Routes
from store.database import StoreUnavailable

routes = Routes("/health", "health")
# Anybody may ask, without a limit: balancers do every second or so.
CHECK_EVERY_S: Final = 1.0


class Health(BaseModel):
    """What anybody may know."""

    status: Literal["ok"] = "ok"
    version: Literal["v1"] = "v1"


class StoreCheck:
    """Whether the store answers; asked once in `CHECK_EVERY_S`, however many want to know."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._asking = asyncio.Lock()
        self._asked_s = float("-inf")
        self._error: str | None = None

    async def check(self) -> None:
        """Make sure that the store answers.

        Raises
        ------
        StoreUnavailable
            If it did not when it was asked last.
        """
        async with self._asking:
            if self._parts.monotonic_s() - self._asked_s >= CHECK_EVERY_S:
                self._error = None
                try:
                    await asyncio.to_thread(self._parts.database.query, "SELECT 1 AS one")
                except StoreUnavailable as error:
                    self._error = str(error)
                self._asked_s = self._parts.monotonic_s()
            if self._error is not None:
                raise StoreUnavailable(self._error)


@routes.get("", permission=None, reach="public", trail="none")
async def show_health(request: Request) -> Health:
    """Say whether the API answers and reaches its store (otherwise 503), as of the last second."""
    await request.app.state.store_check.check()
    return Health()
