"""What holds no longer: keys, people's sign-ins, families of refresh tokens, single tokens."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.personal import normalised
from store.database import Database

# As the table's TTL has it, but for keys; nothing that can be revoked may live longer.
KEPT: Final = timedelta(days=8)
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Revocations:
    """The table ``revocations``; every method blocks, as those of `Database` do.

    An id is ``key:…``, ``user:…``, ``family:…`` or ``token:…``. A person may sign in again, so a revocation
    of ``user:…`` says nothing about sign-ins after it; anything else that was revoked is never good again.
    A key's stay; the others, for `KEPT`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def revoke(self, id_: str, tenant_id: str, now: datetime, *, by: str, reason: str) -> None:
        """Let whatever was issued for an id until now hold no longer.

        Parameters
        ----------
        tenant_id
            Whose it is: the tokens of other tenants live on, so guessing ids gains nothing. Empty for the
            platform, whose word holds for everyone.
        """
        row = {
            "id": _one_form(id_),
            "tenant_id": tenant_id,
            "revoked_at": now,
            "revoked_by": by,
            "reason": reason,
        }
        self._database.insert_rows("revocations", [row])

    def latest(self, ids: Sequence[str], tenant_id: str) -> datetime | None:
        """Return when any of these was last revoked; None if never.

        Parameters
        ----------
        tenant_id
            Whose they are.
        """
        row = self._database.query(
            "SELECT max(revoked_at) AS revoked_at FROM revocations "
            "WHERE id IN {private_ids:Array(String)} AND tenant_id IN ('', {tenant_id:String})",
            {"private_ids": list(ids), "tenant_id": tenant_id},
        )[0]
        revoked_at: datetime = row["revoked_at"]
        return revoked_at if revoked_at > _NEVER else None

    def revoked_in(self, ids: Sequence[str], tenant_ids: Sequence[str], begun_at: datetime) -> frozenset[str]:
        """Return in which of these tenants what came of a sign-in then holds no longer.

        Only people's revocations are compared with that time: a family or a token may be revoked by a process
        whose clock is behind, or that read it before the token's last use, and is revoked all the same.

        Parameters
        ----------
        ids
            By any of these it may have been revoked.
        tenant_ids
            Whom it was issued for; the platform's word, '', is looked for besides.
        """
        rows = self._database.query(
            "SELECT DISTINCT tenant_id FROM revocations WHERE id IN {private_ids:Array(String)} "
            "AND tenant_id IN {tenant_ids:Array(String)} "
            "AND (NOT startsWith(id, 'user:') OR revoked_at >= {begun_at:DateTime64(3, 'UTC')})",
            {
                # As they are, too: earlier versions stored them so.
                "private_ids": [*ids, *map(_one_form, ids)],
                "tenant_ids": ["", *tenant_ids],
                "begun_at": begun_at,
            },
        )
        return frozenset(row["tenant_id"] for row in rows)


def _one_form(id_: str) -> str:
    """Return the one form of all ways to write a person's id, and other ids as they are.

    An administrator writes an address as they know it, the provider as it likes: else a revocation would be
    stored that no token answers to. Who is one person to the vault is one here.

    >>> _one_form("user:email|Ana%40Example.com"), _one_form("user:Ana"), _one_form("token:A@B")
    ('user:ana@example.com', 'user:Ana', 'token:A@B')
    """
    return f"user:{normalised(id_).removeprefix('user:')}" if id_.startswith("user:") else id_
