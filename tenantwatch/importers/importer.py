"""From what a source says to events of the contract: what is the same for every source."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from schemas.errors import describe
from schemas.event import MAX_ATTRIBUTES_BYTES, MODELS, TenantId
from tenantwatch.importers.identity import EventIds
from tenantwatch.importers.report import ImportReport
from tenantwatch.importers.values import ATTRIBUTE_CHARACTERS, NotUnderstood, escape_surrogates

Fields = dict[str, Any]
"""An event's fields; without `event_id` it is derived, `tenant_id` and `service` come from the importer."""
Reading = Fields | Iterable[Fields] | str
"""What an item says: an event, several, or the kind of an item that carries none."""

# The contract's limits, and one of our own where it has none: nobody reads more of a user agent.
EVENT_ID_CHARACTERS: Final = 64
CHARACTERS: Final = {"user_id": 256, "reason": 64}
TEXT_CHARACTERS: Final = 1_024
# Attributes that would be too large together are cut to this: 32 keys then fit in any script.
SHORT_ATTRIBUTE_CHARACTERS: Final = 32

_TENANT_ID: Final = TypeAdapter[str](TenantId)


class Item(Protocol):
    """What a source is read as."""

    @property
    def text(self) -> str:
        """The item as it was read, for its id and for the report."""
        ...

    def find(self, name: str) -> object:
        """Return the value of one of its fields, or None."""
        ...


class Line(NamedTuple):
    """A line of a log, without its end."""

    text: str

    def find(self, name: str) -> None:
        """Return None: what a line's fields are, its reader knows."""


ItemT = TypeVar("ItemT", bound=Item, contravariant=True)


@dataclass(frozen=True)
class Tenancy:
    """Whose the events are: one tenant's, or that of a field of each item.

    Parameters
    ----------
    tenant_id
        The tenant of items in which `field` is missing; None: those are not understood.
    field
        Name of a field of the source, dotted where it is nested (``data.tenant_name``); None: all are of
        `tenant_id`.

    >>> Tenancy("tenant-a").of(Line("a line"), {})
    'tenant-a'
    """

    tenant_id: str | None = None
    field: str | None = None

    def of(self, item: Item, fields: Mapping[str, Any]) -> str:
        """Return the tenant of an item, which made `fields`.

        Raises
        ------
        NotUnderstood
            If there is none, or it cannot be a tenant's id.
        """
        value = None
        if self.field is not None:
            value = item.find(self.field)
            if value is None:
                value = fields.get("attributes", {}).get(self.field)
        if value is None or value == "":
            value = self.tenant_id
        if value is None:
            raise NotUnderstood(f"{self.field} is missing, so the tenant is unknown")
        try:
            return _tenant_id(str(value))
        except ValidationError:
            raise NotUnderstood(
                f"{self.field} is {value!r:.60}, which is no tenant_id: 1 to 64 of A-Z a-z 0-9 . _ -"
            ) from None


@lru_cache(maxsize=1 << 12)
def _tenant_id(text: str) -> str:
    return _TENANT_ID.validate_python(text)


class Importer(Generic[ItemT]):
    """Turns the items of one source into events, in their order, and counts every one.

    Parameters
    ----------
    read
        What an item says. It may raise `NotUnderstood`.
    tenancy
        Whose the events are.
    service
        Who reports them.
    noun
        What an item is, for the report.

    Examples
    --------
    >>> def read(line):
    ...     return {"kind": "auth", "time": "2026-01-05T08:00:00Z", "action": "login", "outcome": line.text}
    >>> importer = Importer(read, Tenancy("tenant-a"), "login")
    >>> [event["outcome"] for event in importer.events([Line("success"), Line("perhaps")])]
    ['success']
    >>> importer.report.not_understood
    1
    """

    def __init__(
        self, read: Callable[[ItemT], Reading], tenancy: Tenancy, service: str, noun: str = "line"
    ) -> None:
        self.report = ImportReport(noun)
        self._read = read
        self._tenancy = tenancy
        self._service = service
        self._ids = EventIds()

    def events(self, items: Iterable[ItemT]) -> Iterator[Fields]:
        """Yield the events of `items`, each ready for ``json.dumps``, and count every item in `report`."""
        report = self.report
        for item in items:
            report.read += 1
            try:
                for event in self._events_of(item):
                    report.events_made += 1
                    yield event
            except NotUnderstood as error:
                report.count_not_understood(str(error), item.text)

    def _events_of(self, item: ItemT) -> Iterator[Fields]:
        reading = self._read(item)
        if isinstance(reading, str):
            self.report.count_without_event(reading)
            return
        for fields in [reading] if isinstance(reading, dict) else reading:
            yield self._event(fields, item)

    def _event(self, fields: Fields, item: Item) -> Fields:
        tenant_id = self._tenancy.of(item, fields)
        event_id = escape_surrogates(fields.get("event_id") or "")
        if not event_id or len(event_id) > EVENT_ID_CHARACTERS:
            told = event_id or escape_surrogates(item.text.rstrip())
            # The time is part of it because a line without a year may be another year's.
            event_id = self._ids.of(tenant_id, fields["time"], told)
        event: Fields = {
            "event_id": event_id,
            "kind": fields["kind"],
            "tenant_id": tenant_id,
            "time": fields["time"],
            "service": self._service,
        }
        for name, value in fields.items():
            if name not in event and value is not None and value != "":
                event[name] = _cut(name, value)
        event["attributes"] = _attributes(fields.get("attributes", {}))
        if not event["attributes"]:
            del event["attributes"]
        try:
            MODELS[event["kind"]].model_validate(event)
        except ValidationError as error:
            raise NotUnderstood(describe(error)) from None
        return event


def _cut(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return escape_surrogates(value)[: CHARACTERS.get(name, TEXT_CHARACTERS)]


def _attributes(given: Mapping[str, Any]) -> Fields:
    """Return the attributes that hold something, cut so that all fit in the contract's limit."""
    kept = {
        name: escape_surrogates(value)[:ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
        for name, value in given.items()
        if (isinstance(value, str) and value) or (isinstance(value, int | float) and isfinite(value))
    }
    size = sum(len(value) for value in kept.values() if isinstance(value, str))
    # A character takes at most six bytes, so most are known to fit without being measured.
    if size * 6 > MAX_ATTRIBUTES_BYTES // 2 and len(json.dumps(kept)) > MAX_ATTRIBUTES_BYTES:
        return {
            name: value[:SHORT_ATTRIBUTE_CHARACTERS] if isinstance(value, str) else value
            for name, value in kept.items()
        }
    return kept
