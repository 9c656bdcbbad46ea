"""What both peers' jobs share: validation, enrichment and rows; imports nothing that only we install.

Validation is msgspec's, the fastest there is for Python: every field that the traffic carries, with its type,
its length and the word list where the contract has one. It is less than ours: no rule about `attributes`, no
unknown fields, no arrays, no CloudEvents, no dead letter with a reason.
"""

import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import clickhouse_connect
import msgspec
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.memory import peak_memory_mb

TOPICS: Final = ("audit.auth", "audit.access", "audit.request")
ALERTS: Final = "bench.alerts"
WINDOW_S: Final = 300
# So few that the traffic of `bench.traffic`, where nobody guesses, gives rise to alerts at all.
ALERT_AT: Final = 2

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
TenantId = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9._-]+$")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Zoned = Annotated[datetime, msgspec.Meta(tz=True)]


class Event(msgspec.Struct, gc=False):
    """Any kind of event; the fields of the other kinds are null."""

    event_id: Id
    kind: Literal["auth", "access", "request"]
    tenant_id: TenantId
    time: Zoned
    service: Word
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None
    source_ip: str | None
    user_agent: str | None
    session_id: str | None
    outcome: Literal["success", "failure"]
    reason: Word | None = None
    action: Word | None = None
    auth_method: Word | None = None
    permission: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    http_method: str | None = None
    http_route: str | None = None
    http_path: str | None = None
    http_status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    duration_ms: float | None = None


decode: Final[Callable[[bytes], Event]] = msgspec.json.Decoder(Event).decode
_NAMES: Final = Event.__struct_fields__
_TYPES: Final[dict[str, Any]] = {
    "time": pa.timestamp("ms", "UTC"),
    "http_status": pa.uint16(),
    "duration_ms": pa.float64(),
}
_SETTINGS: Final = ("organization_id", "tier", "region", "status")


def count_failure(state: tuple[int, int] | None, at_s: float) -> tuple[tuple[int, int], bool]:
    """Return the count of a user's window after one more failure, and whether it now is `ALERT_AT`."""
    window = int(at_s) // WINDOW_S
    count = state[1] + 1 if state is not None and state[0] == window else 1
    return (window, count), count == ALERT_AT


def alert_of(event: Event) -> bytes:
    """Return an alert as JSON."""
    return msgspec.json.encode(
        {"tenant_id": event.tenant_id, "user_id": event.user_id, "time": event.time, "failures": ALERT_AT}
    )


def load_tenants(bootstrap: str) -> dict[str, tuple[str, ...]]:
    """Read ``audit.tenants`` to its end: tenant to organisation, tier, region and status."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench-peer-tenants", "enable.auto.commit": False}
    )
    found = consumer.list_topics("audit.tenants").topics["audit.tenants"].partitions
    ends = {p: consumer.get_watermark_offsets(TopicPartition("audit.tenants", p))[1] for p in found}
    consumer.assign([TopicPartition("audit.tenants", p, OFFSET_BEGINNING) for p in found])
    tenants: dict[str, tuple[str, ...]] = {}
    while len(tenants) < sum(ends.values()):
        for message in consumer.consume(1_000, 0.2):
            tenant = json.loads(message.value() or b"")
            tenants[tenant["tenant_id"]] = tuple(tenant[name] for name in _SETTINGS)
    consumer.close()
    return tenants


class Store:
    """Enriches events and inserts them into ``events`` as Arrow, clickhouse-connect's fastest way."""

    def __init__(self, url: str, bootstrap: str) -> None:
        parts = urlsplit(url)
        self._client = clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port,
            username=parts.username,
            password=parts.password or "",
            database=parts.path.strip("/"),
        )
        self._tenants = load_tenants(bootstrap)

    def insert(self, events: Iterable[Event]) -> None:
        """Insert events; they are durable when it returns."""
        columns = dict(zip(_NAMES, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True))
        if not columns:
            return
        arrays = {
            name: pa.array(column, _TYPES.get(name, pa.string()))
            for name, column in columns.items()
            if name in ("http_status", "duration_ms") or any(column)
        }
        settings = zip(*map(self._tenants.__getitem__, columns["tenant_id"]), strict=True)
        for name, values in zip((*_SETTINGS[:3], "tenant_status"), settings, strict=True):
            arrays[name] = pa.array(values, pa.string())
        # '' is what a missing text is in the table, and the server makes it of null.
        table = pa.table(arrays)
        self._client.insert_arrow("events", table, settings={"input_format_null_as_default": 1})


class Stopwatch:
    """From the first event in hand to the end: wall clock and CPU of the whole process."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None
        self.events = 0
        self.alerts = 0

    def count(self, events: int) -> None:
        """Note that so many events are in hand."""
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()
        self.events += events

    def result(self) -> str:
        """Return one line of JSON."""
        assert self._began is not None
        return json.dumps(
            {
                "events": self.events,
                "seconds": time.perf_counter() - self._began[0],
                "cpu_s": time.process_time() - self._began[1],
                "alerts": self.alerts,
                "peak_memory_mb": peak_memory_mb(),
            }
        )
