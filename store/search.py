"""Searching a tenant's events: by what they say, newest or oldest first, a page at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from schemas.alert import to_ms
from schemas.batch import FIELDS, FLAGS
from schemas.event import KINDS, Kind
from store.database import Database
from store.queries import TenantContext

MAX_PAGE: Final = 1_000
# With the one more that is asked for: as many as the engine, from 26.5 on, chooses by the index of times.
# Of a large tenant's events that takes a third of the time that more rows take.
QUICK_PAGE: Final = 999
# Fields that an event can be looked for by, all of them equal to a text.
FILTERS: Final = (
    "event_id", "user_id", "source_ip", "service", "session_id", "trace_id", "token_id", "outcome", "reason",
    "action", "auth_method", "permission", "resource_type", "resource_id", "resource_tenant_id",
    "http_method", "http_route", "api_key_id",
)  # fmt: skip
# Where a text is looked for that somebody remembers a part of.
TEXTS: Final = ("user_id", "resource_id", "http_path", "user_agent", "reason", "attributes")
_ENRICHED: Final = ("organization_id", "tier", "region", "tenant_status")
_PLACE: Final = ("kafka_topic", "kafka_partition", "kafka_offset", "message_index")
_ORDER: Final = "time {0}, kafka_partition {0}, kafka_offset {0}, message_index {0}, kafka_topic_id {0}"
_POSITION: Final = "(time, kafka_partition, kafka_offset, message_index, kafka_topic_id)"
_AFTER: Final = (
    "(fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC'), {after_partition:Int32}, {after_offset:Int64}, "
    "{after_index:UInt16}, {after_topic_id:String})"
)
_TIME: Final = "fromUnixTimestamp64Milli({{{0}:Int64}}, 'UTC')"


class Position(NamedTuple):
    """Where an event is among a tenant's: what a page goes on from.

    And when the first page was read, by the store's clock: what workers took in later is on no further page.
    Else it would depend on its event time, and the oldest first would have no end while events come.
    """

    time_ms: int
    partition: int
    offset: int
    message_index: int
    topic_id: str
    as_of_ms: int


@dataclass(frozen=True)
class EventSearch:
    """Which events are meant.

    Parameters
    ----------
    kinds
        Of these kinds.
    since, until
        Event time, the second not included; None: no limit.
    equal
        Field of `FILTERS` to its values, any of them.
    status
        HTTP status.
    texts
        Any of these in one of `TEXTS`, in any case of letters; none: whatever is there.
    newest_first
        Their order.
    """

    kinds: tuple[Kind, ...] = KINDS
    since: datetime | None = None
    until: datetime | None = None
    equal: Mapping[str, Sequence[str]] = field(default_factory=dict)
    status: int | None = None
    texts: tuple[str, ...] = ()
    newest_first: bool = True

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """Return SQL conditions, and the values that ClickHouse binds to them.

        Raises
        ------
        ValueError
            If a field is none of `FILTERS`.
        """
        found, bound = list[str](), dict[str, Any]()
        for name, time in (("since", self.since), ("until", self.until)):
            if time is not None:
                found.append(f"time {'>=' if name == 'since' else '<'} {_TIME.format(name)}")
                bound[name] = to_ms(time)
        for name, values in self.equal.items():
            if name not in FILTERS:
                raise ValueError(f"events cannot be looked for by {name}")
            found.append(f"{name} IN {{private_{name}:Array(String)}}")
            bound[f"private_{name}"] = list(values)
        if self.status is not None:
            found.append("http_status = {of_status:UInt16}")
            bound["of_status"] = self.status
        if self.texts:
            texts = "{private_texts:Array(String)}"
            parts = (f"multiSearchAnyCaseInsensitiveUTF8({name}, {texts})" for name in TEXTS)
            found.append(f"({' OR '.join(parts)})")
            bound["private_texts"] = list(self.texts)
        return found, bound


class Page(NamedTuple):
    """Events, and where the next page goes on; None: there are no more."""

    events: list[dict[str, Any]]
    next: Position | None


def search(
    database: Database,
    tenant: TenantContext,
    wanted: EventSearch,
    rows: int,
    after: Position | None = None,
) -> Page:
    """Return a page of events, as the contract has them, with what enrichment added.

    Parameters
    ----------
    rows
        At most so many, up to 1,000.
    after
        Where the page before ended.
    """
    rows = min(rows, MAX_PAGE)
    conditions, bound = wanted.conditions()
    if wanted.kinds != KINDS:
        conditions.append("kind IN {kinds:Array(String)}")
        bound["kinds"] = list(wanted.kinds)
    scope, of_scope = tenant.condition()
    if after is not None:
        beyond = "<" if wanted.newest_first else ">"
        conditions.append(f"{_POSITION} {beyond} {_AFTER}")
        # It follows from that, and is what the table's index knows.
        conditions.append(f"time {beyond}= {_TIME.format('after_ms')}")
        conditions.append(f"ingest_time <= {_TIME.format('as_of_ms')}")
        names = ("after_ms", "after_partition", "after_offset", "after_index", "after_topic_id", "as_of_ms")
        bound |= dict(zip(names, after, strict=True))
    # One statement for all kinds, with nothing but a limit: so the engine sorts by a few columns, and reads
    # the others of a page's rows only. A union by kind, or `LIMIT BY`, reads them of each part's first block.
    sql = (
        "SELECT *, toUnixTimestamp64Milli(time) AS time_ms, toUnixTimestamp64Milli(now64(3)) AS now_ms, "
        "toUnixTimestamp64Milli(ingest_time) AS ingest_time_ms FROM events "
        f"WHERE {' AND '.join([scope, *conditions])} "
        f"ORDER BY {_ORDER.format('DESC' if wanted.newest_first else 'ASC')} LIMIT {{rows:UInt32}}"
    )
    # One more than asked for says whether there are more.
    found = database.query(sql, {**bound, **of_scope, "rows": rows + 1})
    more = len(found) > rows
    # A row that is there twice, which reconciliation has yet to find, is one event.
    found = [next(same) for _, same in groupby(found[:rows], key=_place_of)]
    if not more:
        return Page([as_event(row) for row in found], None)
    # A worker's clock may be ahead of the store's.
    newest = [max(int(row["now_ms"]), int(row["ingest_time_ms"])) for row in found]
    as_of_ms = after.as_of_ms if after is not None else max(newest)
    return Page([as_event(row) for row in found], Position(*_place_of(found[-1]), as_of_ms))


def _place_of(row: Mapping[str, Any]) -> tuple[int, int, int, int, str]:
    return (
        int(row["time_ms"]),
        int(row["kafka_partition"]),
        int(row["kafka_offset"]),
        int(row["message_index"]),
        str(row["kafka_topic_id"]),
    )


def as_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table as an event of the contract.

    Every field of its kind is there, null where it has no value; besides what enrichment added, ``flags`` by
    name, and where the event is in Kafka.
    """
    kind: Kind = row["kind"]
    event: dict[str, Any] = {"event_id": row["event_id"], "kind": kind, "time": row["time"]}
    event |= {name: None if row[name] == "" else row[name] for name in FIELDS[kind]}
    event["attributes"] = json.loads(row["attributes"]) if row["attributes"] else None
    event |= {name: row[name] for name in _ENRICHED}
    event["ingest_time"] = row["ingest_time"]
    event["flags"] = [name for name, bit in FLAGS.items() if int(row["flags"]) & bit]
    return event | {name: row[name] for name in _PLACE}
