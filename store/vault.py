"""The vault: who is behind a pseudonym, encrypted under a key of each person's own.

master key (outside the store) -> tenant's key -> person's key -> original. Rows are whole in themselves, so
concurrent workers may both write one; forgetting a person deletes the row, and with it the only key.
"""

import base64
import hmac
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pyarrow as pa
import structlog

from schemas.personal import is_pseudonym, masked, normalised
from schemas.tenant import PersonalData, Tenant
from store.database import Database, Fenced, Guard
from store.master_key import KEY_BYTES, MasterKeyError, MasterKeys, seal, unseal
from store.native import FORMAT, encode_block
from store.parts import in_parts
from store.privacy_log import record
from store.queries import TenantContext
from store.tenant_keys import SUPERSEDED, TenantKey, TenantKeys
from store.webhook_secrets import SecretBox

log = structlog.get_logger()
_DIGEST_CHARACTERS: Final = 26
_INSERTS: Final = "tenantwatch-vault-"
_REWRAPPED_AT_ONCE: Final = 10_000
_PARTS_POLL_S: Final = 0.2
PARTS_DEADLINE_S: Final = 120.0


class Subject(NamedTuple):
    """A person that events speak of.

    Parameters
    ----------
    original
        As it was written in the event.
    seen_ms
        When Kafka had the event, milliseconds since 1970: what it had before the person was forgotten does
        not bring them back.
    """

    tenant_id: str
    pseudonym: str
    original: str
    seen_ms: int


class Shredded(NamedTuple):
    """A person that was forgotten."""

    tenant_id: str
    pseudonym: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did: keys wrapped by the present master key, tenants' new keys, people's re-wrapped."""

    keys_rewrapped: int
    tenant_keys_made: int
    subject_keys_rewrapped: int
    tenant_keys_deleted: int


class VaultBusy(Exception):
    """What was deleted could not be seen to be gone in time; nothing is lost, ask again."""


def pseudonym_of(key: bytes, value: str) -> str:
    """Return the pseudonym of a value under a tenant's pseudonym key: the same for ever.

    >>> pseudonym_of(bytes(32), "user@example.com") == pseudonym_of(bytes(32), "User@Example.com")
    True
    """
    digest = hmac.digest(key, normalised(value).encode("utf-8", "surrogatepass"), "sha256")
    return "p_" + base64.b32encode(digest)[:_DIGEST_CHARACTERS].decode().lower()


def _bound_to(tenant_id: str, pseudonym: str) -> bytes:
    return f"{tenant_id}\0{pseudonym}".encode()


class Vault:
    """Makes pseudonyms, keeps originals, and shows them to those who may.

    Whether somebody may is not judged here; that a reveal happened is noted in ``privacy_log`` first.

    Parameters
    ----------
    database
        Migrated.
    masters
        The master key, and earlier ones.

    Attributes
    ----------
    webhook_secrets
        Seals those; its key hangs on the root, which no rotation changes.
    on_shredded
        Called with those who were forgotten by this process, in the thread that did it.
    on_reveal
        Called with the tenant, the pseudonyms, who asked and why, after it was noted.

    Raises
    ------
    MasterKeyError
        If the store's keys were wrapped by a master key that this process does not have.
    """

    def __init__(self, database: Database, masters: MasterKeys) -> None:
        self._database = database
        self.keys = TenantKeys(database, masters)
        root = self.keys.root()
        # Derived, not stored: of two workers that meet a tenant at once both get the same.
        self.pseudonym_key: Callable[[str], bytes] = lru_cache(maxsize=1 << 16)(
            lambda tenant_id: hmac.digest(root, f"pseudonyms\0{tenant_id}".encode(), "sha256")
        )
        self.webhook_secrets = SecretBox(hmac.digest(root, b"webhook secrets", "sha256"))
        self.on_shredded: list[Callable[[Sequence[Shredded]], None]] = []
        self.on_reveal: list[Callable[[str, Sequence[str], str, str], None]] = []
        # In the engine of this process nothing else keeps a row from being written while it is deleted.
        self._writing = threading.RLock()
        self._shreddings = -1
        self._forgotten_ms: dict[Shredded, int] = {}
        self._news: list[Shredded] = []

    def pseudonym(self, tenant_id: str, value: str) -> str:
        """Return the pseudonym of a value at a tenant; of a pseudonym itself: for searches by either."""
        return value if is_pseudonym(value) else pseudonym_of(self.pseudonym_key(tenant_id), value)

    def stored_user_id(self, tenant: Tenant, user_id: str) -> str:
        """Return what stands in a tenant's trail for a user: the pseudonym, if it is one that gets one."""
        replaced = (tenant.personal_data or PersonalData()).replaces(user_id)
        return self.pseudonym(tenant.tenant_id, user_id) if replaced else user_id

    def keep(self, subjects: Sequence[Subject]) -> list[Shredded]:
        """Store who is not there yet; once this returns, they are durable.

        Returns
        -------
        list
            Those who were not stored, because they were forgotten after their event.
        """
        latest: dict[Shredded, Subject] = {}
        for subject in subjects:
            who = Shredded(subject.tenant_id, subject.pseudonym)
            if who not in latest or latest[who].seen_ms < subject.seen_ms:
                latest[who] = subject
        with self._writing:
            while True:
                self._look()
                left_out = [
                    w for w, s in latest.items() if s.seen_ms <= self._forgotten_ms.get(w, s.seen_ms - 1)
                ]
                wanted = latest.keys() - set(left_out)
                missing = wanted - self._stored(wanted)
                try:
                    self._insert(self._sealed([latest[who] for who in missing]))
                except Fenced:
                    continue  # somebody was forgotten just now
                return left_out

    def _stored(self, wanted: Collection[Shredded]) -> set[Shredded]:
        found: set[Shredded] = set()
        for part in in_parts(wanted, "".join):
            rows = self._database.query_columns(
                "SELECT tenant_id, pseudonym FROM vault "
                "WHERE tenant_id IN {tenants:Array(String)} AND pseudonym IN {pseudonyms:Array(String)}",
                {
                    "tenants": sorted({who.tenant_id for who in part}),
                    "pseudonyms": [who.pseudonym for who in part],
                },
            )
            found |= set(map(Shredded, rows["tenant_id"], rows["pseudonym"]))
        return found

    def _sealed(self, subjects: Sequence[Subject]) -> list[tuple[str, str, str, bytes, bytes]]:
        keys = self.keys.current({subject.tenant_id for subject in subjects})
        rows = []
        for tenant_id, pseudonym, original, _ in subjects:
            bound_to, own = _bound_to(tenant_id, pseudonym), os.urandom(KEY_BYTES)
            wrapped = seal(keys[tenant_id].secret, own, bound_to)
            text = original.encode("utf-8", "surrogatepass")
            rows.append((tenant_id, pseudonym, keys[tenant_id].key_id, wrapped, seal(own, text, bound_to)))
        return rows

    def _insert(self, rows: Sequence[tuple[str, str, str, bytes, bytes]]) -> None:
        """Insert rows, unless somebody was forgotten since `_look` looked.

        Raises
        ------
        Fenced
            If somebody was.
        """
        if not rows:
            return
        names = ("tenant_id", "pseudonym", "key_id", "wrapped_key", "original")
        arrays = {
            name: pa.array(column, pa.string() if i < 3 else pa.binary())
            for i, (name, column) in enumerate(zip(names, zip(*rows, strict=True), strict=True))
        }
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        arrays["stored_at"] = pa.array([now_ms] * len(rows), pa.timestamp("ms", "UTC"))
        guard = Guard(
            "(SELECT count() FROM shreddings) != {known}",
            {"known": self._shreddings},
            f"{_INSERTS}{uuid4()}",
        )
        self._database.insert("vault", list(arrays), encode_block(arrays), FORMAT, guard)

    def newly_shredded(self) -> list[Shredded]:
        """Return who was forgotten, by any process, since this was last asked."""
        with self._writing:
            self._look()
            news, self._news = self._news, []
        return news

    def _look(self) -> None:
        """See who has been forgotten by now."""
        count = int(self._database.query("SELECT count() AS n FROM shreddings")[0]["n"])
        if count == self._shreddings:
            return
        rows = self._database.query(
            "SELECT tenant_id, pseudonym, toUnixTimestamp64Milli(max(forgotten_at)) AS at, count() AS n "
            "FROM shreddings GROUP BY tenant_id, pseudonym"
        )
        found = {Shredded(row["tenant_id"], row["pseudonym"]): int(row["at"]) for row in rows}
        self._news += [who for who, at in found.items() if self._forgotten_ms.get(who) != at]
        self._forgotten_ms, self._shreddings = found, sum(int(row["n"]) for row in rows)

    def shred(
        self,
        tenant_id: str,
        pseudonyms: Sequence[str],
        certificate_id: str,
        now: datetime,
        *,
        wait: bool = True,
    ) -> dict[str, int]:
        """Delete people's rows and keys, by default until no file holds them.

        Parameters
        ----------
        wait
            False: whoever calls waits, with `await_removal`, for the files of several such calls.

        Returns
        -------
        dict
            By table, how many rows went.

        Raises
        ------
        VaultBusy
            If rows were written while they were deleted, or the old files were not removed in time: then the
            rows are deleted, and their bytes may still be there.
        """
        with self._writing:
            self._database.insert_rows(
                "shreddings",
                [
                    {
                        "tenant_id": tenant_id,
                        "pseudonym": pseudonym,
                        "forgotten_at": now,
                        "certificate_id": certificate_id,
                    }
                    for pseudonym in pseudonyms
                ],
            )
            self._end_inserts()
            gone = sum(self._delete(tenant_id, part) for part in in_parts(pseudonyms))
        if wait:
            self.await_removal()
        who = [Shredded(tenant_id, pseudonym) for pseudonym in pseudonyms]
        for listener in self.on_shredded:
            listener(who)
        return {"vault": gone}

    def _delete(self, tenant_id: str, pseudonyms: Sequence[str]) -> int:
        which = {"tenant": tenant_id, "pseudonyms": pseudonyms}
        where = "tenant_id = {tenant:String} AND pseudonym IN {pseudonyms:Array(String)}"
        [found] = self._database.query(f"SELECT uniqExact(pseudonym) AS n FROM vault WHERE {where}", which)
        self._database.command(f"ALTER TABLE vault DELETE WHERE {where} SETTINGS mutations_sync = 2", which)
        if self._database.query(f"SELECT count() AS n FROM vault WHERE {where}", which)[0]["n"]:
            raise VaultBusy("rows of the vault were written while they were deleted; run it again")
        return int(found["n"])

    def _end_inserts(self) -> None:
        """End inserts that were let in before a shredding was noted; those of later ones are refused."""
        if self._database.shared:
            self._database.command(
                "KILL QUERY WHERE startsWith(query_id, {prefix:String}) SYNC", {"prefix": _INSERTS}
            )

    def await_removal(self) -> None:
        """Wait until no file holds what was deleted.

        Raises
        ------
        VaultBusy
            If the old files were not removed in time.
        """
        deadline = time.monotonic() + PARTS_DEADLINE_S
        while self._database.query(
            "SELECT count() AS n FROM system.parts "
            "WHERE database = currentDatabase() AND table = 'vault' AND NOT active"
        )[0]["n"]:
            if time.monotonic() > deadline:
                raise VaultBusy(
                    f"ClickHouse has not removed the vault's old parts for {PARTS_DEADLINE_S:.0f} s; "
                    "the rows are deleted, run it again to have that certified"
                )
            time.sleep(_PARTS_POLL_S)

    def masked(self, tenant: TenantContext, pseudonyms: Iterable[str]) -> dict[str, str]:
        """Return the masked form of each pseudonym that the tenant's vault has a row of."""
        return {one: masked(original) for one, original in self.originals(tenant, pseudonyms).items()}

    def reveal(
        self,
        tenant: TenantContext,
        pseudonyms: Iterable[str],
        *,
        actor: str,
        reason: str,
        tell: bool = True,
    ) -> dict[str, str]:
        """Return the original of each pseudonym that the tenant's vault has a row of.

        To be asked only for those with the permission ``pii:read``; it is noted before anything is returned.

        Parameters
        ----------
        pseudonyms
            Or originals: pseudonyms of them are noted and told, because that stays when they are forgotten.
        actor, reason
            Who asked, and why.
        tell
            Whether `on_reveal` is to be told; not by those who tell the trail themselves.
        """
        asked = sorted({self.pseudonym(tenant.tenant_id, one) for one in pseudonyms})
        record(self._database, "reveal", tenant.tenant_id, asked, actor, reason)
        for listener in self.on_reveal if tell else ():
            listener(tenant.tenant_id, asked, actor, reason)
        return self.originals(tenant, asked)

    def originals(self, tenant: TenantContext, pseudonyms: Iterable[str]) -> dict[str, str]:
        """Return what `reveal` returns, without noting it: for those who note what they do themselves."""
        scope, bound = tenant.condition()
        found: dict[str, str] = {}
        keys: dict[str, TenantKey] | None = None
        for part in in_parts({p for p in pseudonyms if is_pseudonym(p)}):
            rows = self._rows(
                f"{scope} AND pseudonym IN {{pseudonyms:Array(String)}}", {**bound, "pseudonyms": part}
            )
            if rows and keys is None:
                keys = {key.key_id: key for key in self.keys.of([tenant.tenant_id])[tenant.tenant_id]}
            for row in rows:
                assert keys is not None
                bound_to = _bound_to(row["tenant_id"], row["pseudonym"])
                if row["key_id"] not in keys:
                    raise MasterKeyError(
                        f"the key {row['key_id']} of {row['tenant_id']} is not in tenant_keys: the store was "
                        "restored from a backup without it; forget the person, or restore another backup"
                    )
                own = unseal(keys[row["key_id"]].secret, row["wrapped_key"], bound_to)
                found[row["pseudonym"]] = unseal(own, row["original"], bound_to).decode(
                    "utf-8", "surrogatepass"
                )
        return found

    def _rows(self, where: str, bound: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return rows of the vault; bytes go by way of base64, which every client reads alike."""
        rows = self._database.query(
            "SELECT tenant_id, pseudonym, key_id, base64Encode(wrapped_key) AS wrapped_key, "
            f"base64Encode(original) AS original FROM vault WHERE {where} "
            "ORDER BY stored_at DESC LIMIT 1 BY tenant_id, pseudonym",
            bound,
        )
        return [
            {**row, **{name: base64.b64decode(row[name]) for name in ("wrapped_key", "original")}}
            for row in rows
        ]

    def rotate(self, now: datetime, tenant_id: str | None = None) -> Rotation:
        """Give tenants new keys and wrap people's keys by them; no event and no pseudonym changes.

        A replaced key is deleted once nobody can write with it: at once where the engine is in this process,
        else by the next rotation that comes ten minutes later.

        Parameters
        ----------
        tenant_id
            Only this tenant's; None: every tenant's, and what an earlier master key wrapped.
        """
        rewrapped = 0 if tenant_id else self.keys.rewrap(now)
        rows = self._database.query("SELECT DISTINCT tenant_id FROM vault")
        tenants = [row["tenant_id"] for row in rows if tenant_id in (None, row["tenant_id"])]
        before = self.keys.of(tenants)
        made = self.keys.replace(tenants)
        people = sum(self._rewrap(key, before[key.tenant_id]) for key in made.values())
        if people:
            self._database.command("OPTIMIZE TABLE vault FINAL")
            self.await_removal()
        unused = []
        for keys in before.values():
            # Replaced when the next was made; the last of these was only now.
            for key, next_key in zip_longest(keys, keys[1:]):
                long_ago = next_key is not None and now - next_key.created_at > SUPERSEDED
                if long_ago or not self._database.shared:
                    unused.append(key)
        self.keys.drop(unused)
        return Rotation(rewrapped, len(made), people, len(unused))

    def _rewrap(self, key: TenantKey, earlier: Sequence[TenantKey]) -> int:
        old = {one.key_id: one.secret for one in earlier}
        bound = {"tenant": key.tenant_id, "key_id": key.key_id}
        done, after = 0, ""
        with self._writing:
            while True:
                self._look()
                rows = self._rows(
                    "(tenant_id, pseudonym) IN (SELECT tenant_id, pseudonym FROM vault FINAL "
                    "WHERE tenant_id = {tenant:String} AND pseudonym > {after:String} "
                    f"AND key_id != {{key_id:String}} ORDER BY pseudonym LIMIT {_REWRAPPED_AT_ONCE})",
                    {**bound, "after": after},
                )
                again = []
                # Without their key nobody can read them any more: they stay, and stop nothing.
                lost = [row for row in rows if row["key_id"] not in old]
                for row in (row for row in rows if row["key_id"] in old):
                    bound_to = _bound_to(row["tenant_id"], row["pseudonym"])
                    own = unseal(old[row["key_id"]], row["wrapped_key"], bound_to)
                    wrapped = seal(key.secret, own, bound_to)
                    again.append((row["tenant_id"], row["pseudonym"], key.key_id, wrapped, row["original"]))
                try:
                    self._insert(again)
                except Fenced:
                    continue
                if not rows:
                    return done
                if lost:
                    log.error("originals_lost_their_key", tenant_id=key.tenant_id, people=len(lost))
                done += len(again)
                after = max(row["pseudonym"] for row in rows)
