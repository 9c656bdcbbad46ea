"""Batches from short descriptions, and detectors run over a stream cut any way."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from schemas.alert import Alert
from schemas.batch import FIELDS, EventBatch
from schemas.event import Kind
from schemas.tenant import Tenant, unknown_tenant

Events = Sequence[Mapping[str, Any]]
# Some Monday, 09:00 UTC.
START_MS = 1_767_603_600_000
TENANT = "tenant-a"


def batch_of(kind: Kind, events: Events, tenants: Mapping[str, Tenant] | None = None) -> EventBatch:
    """Return a batch; ``time_ms`` is the one field that the contract spells otherwise."""
    columns: dict[str, list[Any]] = {
        name: [event.get(name, "" if name == "attributes" else None) for event in events]
        for name in FIELDS[kind]
    }
    columns["tenant_id"] = [event.get("tenant_id", TENANT) for event in events]
    columns["event_id"] = [event.get("event_id", f"e{i}") for i, event in enumerate(events)]
    columns["outcome"] = [event.get("outcome", "success") for event in events]
    n = len(events)
    batch = EventBatch(
        kind,
        columns,
        np.array([event["time_ms"] for event in events], np.int64),
        np.arange(n, dtype=np.int64),
        np.zeros(n, np.int32),
    )
    given = tenants or {}
    known = tuple(given.get(name) or unknown_tenant(name) for name in batch.tenant.values)
    return EventBatch(**{**vars_of(batch), "tenants": known})


def vars_of(batch: EventBatch) -> dict[str, Any]:
    """Return the arguments that make the same batch again."""
    names = ("kind", "columns", "time_ms", "offset", "message_index", "tenants", "evaluated", "flags")
    return {name: getattr(batch, name) for name in names}


def numbered(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the events with ids of their own, so that cutting the stream does not rename them."""
    return [{"event_id": f"e{i}", **event} for i, event in enumerate(events)]


def run(
    detector: Any,
    events: Events,
    cuts: Iterable[int] = (),
    tenants: Mapping[str, Tenant] | None = None,
    state: Any = None,
) -> list[Alert]:
    """Return the alerts of a stream that is cut into batches at the given positions."""
    state = detector.new_state() if state is None else state
    bounds = [0, *sorted(set(cuts)), len(events)]
    alerts: list[Alert] = []
    for start, stop in pairwise(bounds):
        alerts.extend(detector.fold(batch_of(detector.kind, events[start:stop], tenants), state))
    return alerts


def as_set(alerts: Iterable[Alert]) -> set[str]:
    """Return alerts for comparison without regard to their order."""
    return {alert.model_dump_json() for alert in alerts}
