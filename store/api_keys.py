"""API keys and their last use.

Who presents a key is not yet anybody: looking it up by its id is the one read that is bound to no tenant.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from store.database import Database
from store.queries import Scope

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    "key_id, tenant_id, name, roles, permissions, secret_hash, signing_key, previous_hash, "
    "previous_signing_key, previous_until, created_at, created_by, expires_at, version"
)
_LISTED: Final = f"""
SELECT {_COLUMNS}, used_at, revoked_at
FROM (SELECT {_COLUMNS} FROM api_keys FINAL WHERE {{scope}} AND {{chosen}}) AS keys
LEFT JOIN (SELECT key_id, max(used_at) AS used_at FROM api_key_uses GROUP BY key_id) AS uses USING key_id
LEFT JOIN (
    SELECT substring(id, 5) AS key_id, min(revoked_at) AS revoked_at FROM revocations
    WHERE startsWith(id, 'key:') GROUP BY key_id
) AS revoked USING key_id
ORDER BY created_at, key_id
"""


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored; what could be misused stays out of ``repr``."""

    key_id: str
    tenant_id: str
    name: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    secret_hash: str = field(repr=False)
    signing_key: str = field(repr=False)
    previous_hash: str = field(repr=False)
    previous_signing_key: str = field(repr=False)
    previous_until: datetime
    created_at: datetime
    created_by: str
    expires_at: datetime
    version: int = 0

    @property
    def subject(self) -> str:
        """The name under which it acts."""
        return f"key:{self.key_id}"

    def hashes_at(self, now: datetime) -> tuple[str, ...]:
        """Return the hashes of the secrets that hold."""
        if self.previous_hash and now < self.previous_until:
            return self.secret_hash, self.previous_hash
        return (self.secret_hash,)

    def signing_keys_at(self, now: datetime) -> tuple[str, ...]:
        """Return the encrypted keys for signed requests that hold."""
        if self.previous_signing_key and now < self.previous_until:
            return self.signing_key, self.previous_signing_key
        return (self.signing_key,)


@dataclass(frozen=True)
class ListedKey:
    """A key with what became of it."""

    key: ApiKey
    last_used_at: datetime | None
    revoked_at: datetime | None


class UnknownKey(LookupError):
    """No key has this id, or it is another tenant's."""


class ApiKeys:
    """The tables of the API keys; every method blocks, as those of `Database` do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key_id: str) -> ApiKey | None:
        """Return the key of this id, whoever's it is: for telling whether a secret belongs to it."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM api_keys FINAL WHERE key_id = {{key_id:String}}", {"key_id": key_id}
        )
        return _key(rows[0]) if rows else None

    def listed(self, scope: Scope, key_id: str | None = None) -> Sequence[ListedKey]:
        """Return the keys of a scope, revoked and expired ones too, the oldest first."""
        condition, bound = scope.condition()
        chosen = "true" if key_id is None else "key_id = {key_id:String}"
        rows = self._database.query(
            _LISTED.format(scope=condition, chosen=chosen), {**bound, "key_id": key_id or ""}
        )
        return [ListedKey(_key(row), _moment(row["used_at"]), _moment(row["revoked_at"])) for row in rows]

    def get(self, scope: Scope, key_id: str) -> ListedKey:
        """Return a key of a scope.

        Raises
        ------
        UnknownKey
            If the scope has no such key.
        """
        found = self.listed(scope, key_id)
        if not found:
            raise UnknownKey(f"there is no API key {key_id!r}; `tenantwatch keys list` shows those there are")
        return found[0]

    def write(self, key: ApiKey) -> ApiKey:
        """Store a key, or a newer version of it."""
        newer = replace(key, version=key.version + 1)
        row = asdict(newer)
        self._database.insert_rows(
            "api_keys", [row | {"roles": list(key.roles), "permissions": list(key.permissions)}]
        )
        return newer

    def used(self, key: ApiKey, now: datetime, source_ip: str) -> None:
        """Note that a key was used."""
        self._database.insert_rows(
            "api_key_uses",
            [{"key_id": key.key_id, "tenant_id": key.tenant_id, "used_at": now, "source_ip": source_ip}],
        )


def _moment(value: datetime | None) -> datetime | None:
    return value if value and value > NEVER else None


def _key(row: dict[str, Any]) -> ApiKey:
    held = {name: row[name] for name in _COLUMNS.split(", ")}
    return ApiKey(**held | {"roles": tuple(row["roles"]), "permissions": tuple(row["permissions"])})
