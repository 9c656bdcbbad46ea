"""Refresh tokens, and whatever else may be used only once."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from store.database import Database, StoreUnavailable

_AGAIN_S: Final = 0.5


@dataclass(frozen=True)
class RefreshToken:
    """A refresh token as it is stored.

    Parameters
    ----------
    token_hash
        SHA-256 of the token, hexadecimal.
    family_id
        The same for all tokens that follow from one sign-in.
    body
        Whom it is for and what for, as JSON.
    """

    token_hash: str
    family_id: str
    subject: str
    tenant_id: str
    body: str
    issued_at: datetime
    expires_at: datetime


class RefreshTokens:
    """The table ``refresh_tokens``; every method blocks, as those of `Database` do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, token: RefreshToken) -> None:
        """Store a token."""
        self._database.insert_rows("refresh_tokens", [asdict(token)])

    def find(self, token_hash: str) -> RefreshToken | None:
        """Return the token with this hash, used or not."""
        rows = self._database.query(
            "SELECT token_hash, family_id, subject, tenant_id, body, issued_at, expires_at "
            "FROM refresh_tokens WHERE token_hash = {token_hash:String} LIMIT 1",
            {"token_hash": token_hash},
        )
        return RefreshToken(**rows[0]) if rows else None


def use_once(database: Database, ids: Sequence[str], keep_until: datetime) -> list[bool]:
    """Use ids that may be used once; return for each whether this was its first use.

    The store has no compare-and-swap, so each use adds a row and counts afterwards: whoever finds another
    row beside its own has not been first, or cannot tell. Of two uses at the same moment neither passes,
    and never do both.

    Parameters
    ----------
    ids
        ``(n,)``; one that is in it twice passes once at most.
    keep_until
        How long a second use must be refused.

    Raises
    ------
    StoreUnavailable
        If the store does not answer twice; the ids may be used up then.
    """
    mine = uuid.uuid4().hex
    first = [id_ not in ids[:at] for at, id_ in enumerate(ids)]
    try:
        unused = _claimed(database, ids, mine, keep_until)
    except StoreUnavailable:
        # The rows may be there all the same, and would refuse whoever is told to try again. By the same name
        # a second claim is no second use.
        time.sleep(_AGAIN_S)
        unused = _claimed(database, ids, mine, keep_until)
    return [id_ in unused and is_first for id_, is_first in zip(ids, first, strict=True)]


def _claimed(database: Database, ids: Sequence[str], mine: str, keep_until: datetime) -> set[str]:
    """Claim ids by a name, and return those that no other name has claimed."""
    asked = list(dict.fromkeys(ids))
    rows = [{"id": id_, "claimed_by": mine, "keep_until": keep_until} for id_ in asked]
    database.insert_rows("single_uses", rows)
    counted = database.query(
        "SELECT id FROM single_uses WHERE id IN {ids:Array(String)} GROUP BY id "
        "HAVING countIf(claimed_by != {mine:String}) = 0",
        {"ids": asked, "mine": mine},
    )
    return {row["id"] for row in counted}
