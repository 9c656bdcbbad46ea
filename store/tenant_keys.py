"""Tenants' keys, wrapped by the master key: the root of the pseudonym keys, and what wraps people's keys.

A tenant may have several keys, and rows of the vault name theirs: so two workers that meet a tenant at once
may both make one, and a key that is replaced goes on being read.
"""

import base64
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

from store.database import Database
from store.master_key import KEY_BYTES, MasterKeyError, MasterKeys
from store.parts import in_parts

# Of the row that holds the root; no tenant has an empty id.
ROOT: Final = ""
# So soon every process goes by a tenant's new key.
REFRESH_S: Final = 60.0
# And so long after that a replaced key may be deleted: nobody writes with it any more.
SUPERSEDED: Final = timedelta(seconds=10 * REFRESH_S)
_ROWS: Final = (
    "SELECT tenant_id, key_id, wrapped, master_key_id, created_at FROM tenant_keys FINAL "
    "WHERE tenant_id IN {tenants:Array(String)} ORDER BY tenant_id, created_at, key_id"
)


@dataclass(frozen=True, slots=True)
class TenantKey:
    """A key of a tenant's, ready for use."""

    tenant_id: str
    key_id: str
    secret: bytes
    created_at: datetime

    @property
    def bound_to(self) -> bytes:
        """What its wrapping is bound to."""
        return _bound_to(self.tenant_id, self.key_id)


def _bound_to(tenant_id: str, key_id: str) -> bytes:
    return f"tenant key\0{tenant_id}\0{key_id}".encode()


class TenantKeys:
    """Reads, makes and re-wraps tenants' keys.

    Parameters
    ----------
    database
        Migrated.
    masters
        What they are wrapped by.
    """

    def __init__(self, database: Database, masters: MasterKeys) -> None:
        self._database = database
        self.masters = masters
        self._current: dict[str, tuple[float, TenantKey]] = {}

    def root(self) -> bytes:
        """Return the secret that pseudonym keys are derived from; made when it is first asked for.

        Raises
        ------
        MasterKeyError
            If the store's keys were wrapped by a master key that this process does not have.
        """
        found = self.of([ROOT])[ROOT]
        if not found:
            row = self._row(_new_key(ROOT, datetime.now(UTC)))
            self._database.insert_once("tenant_keys", row, "root of the pseudonym keys")
            found = self.of([ROOT])[ROOT]
        return found[0].secret

    def of(self, tenant_ids: Collection[str]) -> dict[str, list[TenantKey]]:
        """Return every key of some tenants, the oldest first."""
        found: dict[str, list[TenantKey]] = {tenant_id: [] for tenant_id in tenant_ids}
        for part in in_parts(tenant_ids):
            for row in self._database.query(_ROWS, {"tenants": part}):
                found[row["tenant_id"]].append(self._opened(row))
        return found

    def current(self, tenant_ids: Collection[str]) -> dict[str, TenantKey]:
        """Return the key in use of each tenant; it is made where there is none."""
        now = monotonic()
        known = {t: self._current[t] for t in tenant_ids if t in self._current}
        fresh = {tenant_id: key for tenant_id, (at, key) in known.items() if now - at < REFRESH_S}
        asked = [tenant_id for tenant_id in tenant_ids if tenant_id not in fresh]
        if asked:
            stored = self.of(asked)
            made = self._make([tenant_id for tenant_id, keys in stored.items() if not keys])
            newest = {tenant_id: keys[-1] for tenant_id, keys in stored.items() if keys} | made
            self._current |= {tenant_id: (now, key) for tenant_id, key in newest.items()}
            fresh |= newest
        return fresh

    def replace(self, tenant_ids: Collection[str]) -> dict[str, TenantKey]:
        """Make a new key for each tenant; it is the one in use from now on."""
        made = self._make(tenant_ids)
        self._current |= {tenant_id: (monotonic(), key) for tenant_id, key in made.items()}
        return made

    def rewrap(self, now: datetime) -> int:
        """Wrap by the master key in use what an earlier one wrapped; return how many keys that were."""
        rows = self._database.query(
            "SELECT tenant_id, key_id, wrapped, master_key_id, created_at FROM tenant_keys FINAL "
            "WHERE master_key_id != {master:String}",
            {"master": self.masters.current.key_id},
        )
        again = [self._row(self._opened(row)) | {"wrapped_at": now} for row in rows]
        self._database.insert_rows("tenant_keys", again)
        if again:
            # So that the wrapping by the earlier master key is gone.
            self._database.command("OPTIMIZE TABLE tenant_keys FINAL")
        return len(again)

    def drop(self, keys: Sequence[TenantKey]) -> None:
        """Delete keys that no row of the vault names any more."""
        for part in in_parts(key.key_id for key in keys):
            self._database.command(
                "ALTER TABLE tenant_keys DELETE WHERE key_id IN {ids:Array(String)} "
                "SETTINGS mutations_sync = 2",
                {"ids": part},
            )

    def _make(self, tenant_ids: Iterable[str]) -> dict[str, TenantKey]:
        now = datetime.now(UTC)
        made = {tenant_id: _new_key(tenant_id, now) for tenant_id in tenant_ids}
        self._database.insert_rows("tenant_keys", [self._row(key) for key in made.values()])
        return made

    def _row(self, key: TenantKey) -> dict[str, Any]:
        master = self.masters.current
        return {
            "tenant_id": key.tenant_id,
            "key_id": key.key_id,
            "wrapped": base64.b64encode(master.wrap(key.secret, key.bound_to)).decode(),
            "master_key_id": master.key_id,
            "created_at": key.created_at,
            "wrapped_at": datetime.now(UTC),
        }

    def _opened(self, row: dict[str, Any]) -> TenantKey:
        bound_to = _bound_to(row["tenant_id"], row["key_id"])
        try:
            wrapped = base64.b64decode(row["wrapped"])
            secret = self.masters.unwrap(row["master_key_id"], wrapped, bound_to)
        except ValueError as error:
            raise MasterKeyError(f"the key {row['key_id']} in tenant_keys is damaged: {error}") from error
        return TenantKey(row["tenant_id"], row["key_id"], secret, row["created_at"])


def _new_key(tenant_id: str, now: datetime) -> TenantKey:
    return TenantKey(tenant_id, os.urandom(8).hex(), os.urandom(KEY_BYTES), now)
