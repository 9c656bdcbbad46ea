"""Using ids once, over all API processes; what comes in together is claimed together."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from store.database import Database
from store.refresh_tokens import use_once
from streams.together import Together


class _Claim(NamedTuple):
    id: str
    keep_until: datetime


class SingleUse:
    """Claims ids in the store, together: ClickHouse takes a hundred small inserts a second badly."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claims: Together[_Claim, bool] = Together(self._claim)

    async def use(self, id_: str, keep_until: datetime) -> bool:
        """Return whether this is the first use of an id, anywhere.

        Raises
        ------
        StoreUnavailable
            If nobody can say; the id counts as used then, or may.
        """
        return await self._claims.ask(_Claim(id_, keep_until))

    def _claim(self, claims: Sequence[_Claim]) -> Sequence[bool]:
        ids = [claim.id for claim in claims]
        return use_once(self._database, ids, max(claim.keep_until for claim in claims))
