"""Personal data becomes pseudonyms: at enrichment, before detection and storing, so that both see the same.

What is looked at, and how closely, is in docs/decisions/0018. A batch without personal data pays for a search
of its bytes; one with it for a look into a dictionary per event.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from pydantic_core import from_json, to_json

from schemas.batch import FIELDS, Column, EventBatch
from schemas.columns import ArrowColumn, Int32s, search, text_bytes
from schemas.event import KINDS, Kind
from schemas.personal import (
    MAYBE_IDENTIFIER,
    PERSONAL_ATTRIBUTES,
    is_personal_attribute,
    is_pseudonym,
    replaced,
)
from schemas.tenant import PersonalData, Tenant
from store.vault import Shredded, Subject, pseudonym_of

# So many values are remembered twice over: about 100 bytes each.
MAX_VALUES: Final = 200_000
# Numbers, closed vocabularies and addresses: the contract's form leaves no room for an identifier in them.
_CLOSED: Final = frozenset(
    {
        "tenant_id", "token_tenant_id", "resource_tenant_id", "source_ip", "outcome", "action", "auth_method",
        "http_method", "record_count", "http_status", "duration_ms", "bytes_in", "bytes_out",
        "user_id", "attributes",
    }
)  # fmt: skip
# Texts in which an identifier may stand among other things.
TEXTS: Final[dict[Kind, tuple[str, ...]]] = {
    kind: tuple(name for name in FIELDS[kind] if name not in _CLOSED) for kind in KINDS
}
_ALTERNATIVES: Final = "|".join(name.replace("_", '[^A-Za-z0-9"]*') for name in PERSONAL_ATTRIBUTES)
# What has none of this in its JSON text holds no attribute that would be replaced.
_MAYBE_PERSONAL: Final = rf'{MAYBE_IDENTIFIER}|"(?i:name|[^"]*(?:{_ALTERNATIVES}))"\s*:'
_DEFAULT: Final = PersonalData()
# Returns the key of a tenant's pseudonyms, by the tenant's id.
KeyOf = Callable[[str], bytes]


@dataclass(slots=True)
class _Pending:
    subjects: list[tuple[str, str, str]]
    values: int


class _Identifiers(dict[str, str]):
    """Pseudonyms of one tenant's people, by the original; who is new is noted."""

    def __init__(self, tenant_id: str, key: bytes, pending: _Pending, before: "_Identifiers | None") -> None:
        super().__init__()
        self._tenant_id, self._key = tenant_id, key
        self._pending = pending
        # Those of the generation before; that generation must not keep the one before it alive.
        self.before = before

    def __missing__(self, original: str) -> str:
        pseudonym = self.before.get(original) if self.before is not None else None
        if pseudonym is None:
            pseudonym = pseudonym_of(self._key, original)
            self._pending.subjects.append((self._tenant_id, pseudonym, original))
        self[original] = pseudonym
        self._pending.values += 1
        return pseudonym


class _Users(dict[str | None, str | None]):
    """What is stored for each ``user_id`` of a tenant."""

    def __init__(self, settings: PersonalData, identifiers: _Identifiers, pending: _Pending) -> None:
        super().__init__({None: None})
        self._settings = settings
        self._identifiers, self._pending = identifiers, pending

    def __missing__(self, user_id: str) -> str:
        personal = self._settings.replaces(user_id) and not is_pseudonym(user_id)
        stored = self._identifiers[user_id] if personal else user_id
        self[user_id] = stored
        self._pending.values += 1
        return stored


class _People:
    """What is known of one tenant."""

    def __init__(self, tenant: Tenant, key: bytes, pending: _Pending, before: "_People | None") -> None:
        known: _Identifiers | None = None if before is None else before.identifiers
        self.identifiers: _Identifiers = _Identifiers(tenant.tenant_id, key, pending, known)
        self._pending = pending
        self.follow(tenant)

    def follow(self, tenant: Tenant) -> None:
        """Go by a tenant's settings of now."""
        self.tenant = tenant
        self.settings = tenant.personal_data or _DEFAULT
        self.users = _Users(self.settings, self.identifiers, self._pending)
        self.named = frozenset(self.settings.attributes)
        self.spared = frozenset(self.settings.not_personal)

    def attributes(self, text: str) -> str:
        """Return the JSON text of attributes with pseudonyms in it."""
        content = from_json(text)
        stored = self._value(content, personal=False)
        return text if stored == content else to_json(stored, inf_nan_mode="strings").decode()

    def _value(self, value: Any, *, personal: bool) -> Any:
        if isinstance(value, dict):
            return {
                replaced(name, self.identifiers.__getitem__): self._value(
                    item, personal=personal or self._is_personal(name)
                )
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._value(item, personal=personal) for item in value]
        if isinstance(value, bool) or value in (None, ""):
            return value
        if personal:
            text = str(value)
            return text if is_pseudonym(text) else self.identifiers[text]
        return replaced(value, self.identifiers.__getitem__) if isinstance(value, str) else value

    def _is_personal(self, name: str) -> bool:
        return name in self.named or (name not in self.spared and is_personal_attribute(name))


class Pseudonymiser:
    """Replaces identifiers in batches by pseudonyms, and says who was met.

    Parameters
    ----------
    key_of
        Returns the pseudonym key of a tenant (`Vault.pseudonym_key`).
    max_values
        So many originals are remembered, and as many from before.
    """

    def __init__(self, key_of: KeyOf, max_values: int = MAX_VALUES) -> None:
        self._key_of = key_of
        self._max_values = max_values
        self._pending = _Pending([], 0)
        self._people: dict[str, _People] = {}
        self._before: dict[str, _People] = {}

    def apply(self, batch: EventBatch, seen_ms: int) -> tuple[EventBatch, list[Subject]]:
        """Return an enriched batch with pseudonyms, and the people in it that are not known to be stored.

        They must be stored before the batch is.

        Parameters
        ----------
        seen_ms
            When Kafka had the events, the earliest of them.
        """
        if not len(batch):
            return batch, []
        people = [self._of(tenant) for tenant in batch.tenants]
        changed: dict[str, Column] = {}
        users = batch.columns["user_id"]
        if any(one.settings.user_id == "always" for one in people) or _may(users, b"(", b"@", b"+", b"%40"):
            changed["user_id"] = _stored(users, batch.tenant.codes, [one.users for one in people])
        for name in TEXTS[batch.kind]:
            column = batch.columns[name]
            if _may(column, b"@", b"+", b"%40"):
                rows = np.flatnonzero(search(column, MAYBE_IDENTIFIER))
                self._rewrite(batch, name, rows.tolist(), people, changed)
        self._attributes(batch, people, changed)
        if self._pending.values > self._max_values:
            for one in self._people.values():
                one.identifiers.before = None
            self._before, self._people = self._people, {}
            self._pending.values = 0
        found, self._pending.subjects = self._pending.subjects, []
        subjects = [Subject(*who, seen_ms) for who in found]
        return (replace(batch, columns={**batch.columns, **changed}) if changed else batch), subjects

    def _of(self, tenant: Tenant) -> _People:
        people = self._people.get(tenant.tenant_id)
        if people is None:
            tenant_id, before = tenant.tenant_id, self._before.get(tenant.tenant_id)
            people = _People(tenant, self._key_of(tenant_id), self._pending, before)
            self._people[tenant_id] = people
        elif people.tenant is not tenant:
            if people.tenant.personal_data == tenant.personal_data:
                people.tenant = tenant
            else:
                people.follow(tenant)
        return people

    def _attributes(self, batch: EventBatch, people: Sequence[_People], changed: dict[str, Column]) -> None:
        column = batch.columns["attributes"]
        if column.blank if isinstance(column, ArrowColumn) else not any(column):
            return
        chosen = search(column, _MAYBE_PERSONAL)
        if any(one.named for one in people):
            chosen |= np.array([bool(one.named) for one in people])[batch.tenant.codes]
        rows = [row for row in np.flatnonzero(chosen).tolist() if column[row]]
        self._rewrite(batch, "attributes", rows, people, changed)

    @staticmethod
    def _rewrite(
        batch: EventBatch,
        name: str,
        rows: Sequence[int],
        people: Sequence[_People],
        changed: dict[str, Column],
    ) -> None:
        if not rows:
            return
        column = batch.columns[name]
        values = list(column)
        for row in rows:
            of = people[batch.tenant.codes[row]]
            text = values[row]
            if name == "attributes":
                values[row] = of.attributes(text)
            else:
                values[row] = replaced(text, of.identifiers.__getitem__)
        changed[name] = ArrowColumn.of(values) if isinstance(column, ArrowColumn) else values

    def forget(self, who: Iterable[Shredded]) -> None:
        """Forget people: whoever comes back is met anew."""
        gone: dict[str, set[str]] = {}
        for tenant_id, pseudonym in who:
            gone.setdefault(tenant_id, set()).add(pseudonym)
        for tenant_id, pseudonyms in gone.items():
            for generation in (self._people, self._before):
                if tenant_id in generation:
                    people = generation[tenant_id]
                    for table in (people.users, people.identifiers):
                        for value in [v for v, stored in table.items() if stored in pseudonyms]:
                            del table[value]  # type: ignore[arg-type]

    def reset(self) -> None:
        """Forget everything: what was met may not have been stored."""
        self._people, self._before = {}, {}
        self._pending.subjects, self._pending.values = [], 0


def _stored(users: Column, codes: Int32s, tables: Sequence[_Users]) -> Column:
    """Return ``(n,)`` what is stored for users, by the tables of their tenants."""
    if not isinstance(users, ArrowColumn):
        return [tables[code][user_id] for code, user_id in zip(codes.tolist(), users, strict=True)]
    # Mostly a user is there several times, and of one tenant: then each of them is looked up once.
    tenant_of = np.zeros(len(users.distinct), np.int32)
    tenant_of[users.codes] = codes
    if (tenant_of[users.codes] == codes).all():
        found = [tables[code][user] for code, user in zip(tenant_of.tolist(), users.distinct, strict=True)]
        if len(set(found)) == len(found):  # not of one who is written in two ways
            return ArrowColumn.of_codes(users.codes, found)
    return ArrowColumn.of([tables[code][user] for code, user in zip(codes.tolist(), users, strict=True)])


def _may(column: Column, *signs: bytes) -> bool:
    """Return whether any text of a column has any of these bytes."""
    text = text_bytes(column)
    return any(sign in text for sign in signs)
