"""Every metric that a worker exports, in one place.

No label ever carries a tenant or a user: per-tenant numbers come from the store.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from schemas.batch import FLAGS
from schemas.parse import REASONS

REGISTRY: Final = CollectorRegistry()

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

EVENTS_STORED: Final = Counter("tenantwatch_events_stored", "Events stored.", ["kind"], registry=REGISTRY)
EVENTS_FLAGGED: Final = Counter(
    "tenantwatch_events_flagged",
    "Events stored but not handed to detectors: late, future, duplicate, wrong_partition, planned_test.",
    ["kind", "flag"],
    registry=REGISTRY,
)
DEAD_LETTERS: Final = Counter(
    "tenantwatch_dead_letters", "Messages sent to audit.dead-letters.", ["kind", "reason"], registry=REGISTRY
)
UNKNOWN_FIELDS: Final = Counter(
    "tenantwatch_unknown_fields",
    "Fields that the contract does not know, kept under attributes.",
    ["kind"],
    registry=REGISTRY,
)
ALERTS_PUBLISHED: Final = Counter(
    "tenantwatch_alerts_published",
    "Alert revisions published.",
    ["detector", "severity", "status"],
    registry=REGISTRY,
)
ALERTS_UNREADABLE: Final = Counter(
    "tenantwatch_alerts_unreadable",
    "Records of audit.alerts that are no alerts, and were passed over; should be 0.",
    registry=REGISTRY,
)
ALERT_LATENCY: Final = Histogram(
    "tenantwatch_alert_latency_seconds",
    "From the event's Kafka timestamp to its alert being acknowledged by Kafka.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
STAGE_SECONDS: Final = Counter(
    "tenantwatch_stage_seconds",
    "Time spent by stage: parse, enrich, detect, encode, keep (new people, into the vault), insert.",
    ["stage"],
    registry=REGISTRY,
)
INSERT_SECONDS: Final = Histogram(
    "tenantwatch_insert_seconds", "Time of one insert into the store.", buckets=_SECONDS, registry=REGISTRY
)
INSERT_RETRIES: Final = Counter(
    "tenantwatch_insert_retries", "Inserts that failed and were tried again.", registry=REGISTRY
)
ROWS_PENDING: Final = Gauge(
    "tenantwatch_rows_pending", "Rows received and not stored yet.", registry=REGISTRY
)
CONSUMER_LAG: Final = Gauge(
    "tenantwatch_consumer_lag_records",
    "Records in Kafka that are not committed yet.",
    ["topic", "partition"],
    registry=REGISTRY,
)
PARTITION_STOPPED: Final = Gauge(
    "tenantwatch_partition_stopped",
    "1 while nothing of a partition is handled, because too much of it was rejected.",
    ["topic", "partition"],
    registry=REGISTRY,
)
STORE_UP: Final = Gauge("tenantwatch_store_up", "1 while inserts succeed.", registry=REGISTRY)
DIRECTORY_READY: Final = Gauge(
    "tenantwatch_directory_ready", "1 once the tenant directory has caught up.", registry=REGISTRY
)
TENANTS: Final = Gauge("tenantwatch_tenants", "Tenants in the directory.", registry=REGISTRY)
RECOVERY_SECONDS: Final = Gauge(
    "tenantwatch_recovery_seconds",
    "What the latest assignment took until events were handled, waiting for the directory included: warm-up.",
    registry=REGISTRY,
)
RECOVERY_EVENTS: Final = Counter(
    "tenantwatch_recovery_events",
    "Stored events that detectors folded again after a take-over.",
    registry=REGISTRY,
)
EVENTS_SKIPPED: Final = Counter(
    "tenantwatch_events_skipped",
    "Events delivered again that were stored already.",
    ["kind"],
    registry=REGISTRY,
)
RECONCILIATION_GAPS: Final = Gauge(
    "tenantwatch_reconciliation_gaps",
    "What the latest check of this worker's partitions found that does not add up; should be 0.",
    registry=REGISTRY,
)
DUPLICATES_COLLAPSED: Final = Counter(
    "tenantwatch_duplicates_collapsed",
    "Rows that were stored twice and removed; should be 0.",
    registry=REGISTRY,
)
RECONCILED_AT: Final = Gauge(
    "tenantwatch_reconciled_timestamp_seconds",
    "When this worker's partitions were last checked, seconds since 1970.",
    registry=REGISTRY,
)
CLOCK_DOUBTED: Final = Gauge(
    "tenantwatch_clock_doubted",
    "1 while retention waits because this worker's clock may be wrong.",
    registry=REGISTRY,
)
SNAPSHOT_SECONDS: Final = Histogram(
    "tenantwatch_snapshot_seconds",
    "One partition's snapshot, from freezing its state to its being stored.",
    registry=REGISTRY,
)
SNAPSHOT_BYTES: Final = Counter("tenantwatch_snapshot_bytes", "Bytes of snapshots stored.", registry=REGISTRY)
ROWS_SEALED: Final = Counter(
    "tenantwatch_rows_sealed", "Rows of this worker's partitions that were sealed.", registry=REGISTRY
)
SEALS: Final = Counter(
    "tenantwatch_seals", "Seals that were made, the partitions' own included.", registry=REGISTRY
)
UNSEALED_AGE: Final = Gauge(
    "tenantwatch_unsealed_age_seconds",
    "Age of the oldest row of this worker's partitions that is not sealed yet; 0 when all are.",
    registry=REGISTRY,
)
SEAL_SECONDS: Final = Histogram(
    "tenantwatch_seal_seconds",
    "Sealing what is new in some partitions, from reading the rows to the seals being stored.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
SEAL_CHAINS_CUT: Final = Gauge(
    "tenantwatch_seal_chains_cut",
    "Partitions whose last seals, which this worker remembers, the store does not have; should be 0.",
    registry=REGISTRY,
)
ANCHORS_FAILED: Final = Counter(
    "tenantwatch_anchors_failed",
    "Attempts to send anchors that failed, by where.",
    ["target"],
    registry=REGISTRY,
)
WEBHOOK_ATTEMPTS: Final = Counter(
    "tenantwatch_webhook_attempts",
    "Webhook attempts by result: delivered, retried, failed.",
    ["result"],
    registry=REGISTRY,
)
WEBHOOKS_PENDING: Final = Gauge(
    "tenantwatch_webhooks_pending", "Deliveries that wait for an attempt.", registry=REGISTRY
)
API_EVENTS: Final = Counter(
    "tenantwatch_api_events",
    "The API's own auth, access and request events by result: sent, dropped, failed.",
    ["result"],
    registry=REGISTRY,
)
API_REQUESTS: Final = Counter(
    "tenantwatch_api_requests", "Requests answered by the API.", ["status"], registry=REGISTRY
)

# A labelled counter exists from its first increment on, which `increase()` cannot see: these are rare and
# are alerted on, so they exist from the start.
for _result in ("delivered", "retried", "failed"):
    WEBHOOK_ATTEMPTS.labels(_result)
for _target in ("file", "webhook", "topic"):
    ANCHORS_FAILED.labels(_target)
for _result in ("sent", "dropped", "failed"):
    API_EVENTS.labels(_result)
for _kind in ("auth", "access", "request"):
    EVENTS_STORED.labels(_kind)
    for _reason in REASONS:
        DEAD_LETTERS.labels(_kind, _reason)
    for _flag in FLAGS:
        EVENTS_FLAGGED.labels(_kind, _flag)

# Of a process that serves the API only: a worker's gauges would read there as a store that is down.
API_REGISTRY: Final = CollectorRegistry()
API_REGISTRY.register(API_EVENTS)
API_REGISTRY.register(API_REQUESTS)

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Described(NamedTuple):
    """A metric as its reader meets it: `of_api` says whether a process of the API exports it."""

    name: str
    labels: tuple[str, ...]
    text: str
    of_api: bool


def described() -> list[Described]:
    """Return every metric, by name."""
    # The registry's own list: what `collect` returns has lost the labels' names.
    found: Iterable[Any] = REGISTRY._collector_to_names
    return sorted(
        Described(
            f"{one._name}_total" if one._type == "counter" else one._name,
            tuple(one._labelnames),
            one._documentation,
            one in API_REGISTRY._collector_to_names,
        )
        for one in found
    )


def exposition(registry: CollectorRegistry = REGISTRY) -> bytes:
    """Return every metric in Prometheus' text format."""
    return generate_latest(registry)
