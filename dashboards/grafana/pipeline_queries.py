"""What the dashboard of the pipeline asks: the workers through Prometheus, the accounts in the store."""

# ruff: noqa: S608 (constants only)

from dashboards.grafana.sql import percentiles
from schemas.batch import FLAGS

WORKERS_UP = 'sum(up{job="tenantwatch"})'
# Two workers may both report a partition while it moves; the larger lag is the true one.
LAG = "sum by (topic) (max by (topic, partition) (tenantwatch_consumer_lag_records))"


def rate(metric: str, by: str) -> str:
    """Return a counter's growth per second, over all workers, by a label."""
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def quantile(q: float, metric: str) -> str:
    """Return a quantile of a histogram, over all workers."""
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"


LEDGER = """SELECT
  $__timeInterval(handled_at) AS bucket,
  sum(stored) / $__interval_s AS stored,
  sum(rejected) / $__interval_s AS rejected,
  sum(skipped) / $__interval_s AS skipped,
  sum(evaluated) / $__interval_s AS evaluated
FROM ledger
WHERE $__timeFilter(handled_at)
GROUP BY bucket
ORDER BY bucket"""

WORKERS = """SELECT
  worker_id,
  kafka_topic,
  uniq(kafka_partition) AS partitions,
  sum(records) AS messages,
  sum(stored) AS stored_events,
  sum(rejected) AS rejected_events,
  sum(skipped) AS skipped_events,
  sum(unknown_fields) AS unknown,
  max(handled_at) AS last_handled
FROM ledger
WHERE $__timeFilter(handled_at)
GROUP BY worker_id, kafka_topic
ORDER BY last_handled DESC
LIMIT 50"""

_BY_FLAG = ",\n".join(
    f"  countIf(bitTest(flags, {bit.bit_length() - 1})) AS {name}" for name, bit in FLAGS.items()
)

FLAGGED = f"""SELECT
  $__timeInterval(ingest_time) AS bucket,
{_BY_FLAG}
FROM events
WHERE $__timeFilter(ingest_time) AND flags != 0
GROUP BY bucket
ORDER BY bucket"""

# A planned test is no fault of the service's, and with its load would be first.
FLAGGED_SOURCES = f"""SELECT
  service,
  kind,
{_BY_FLAG},
  uniq(tenant_id) AS tenants
FROM events
WHERE $__timeFilter(ingest_time) AND flags != 0
GROUP BY service, kind
ORDER BY {" + ".join(name for name in FLAGS if name != "planned_test")} DESC
LIMIT 20"""

EVENT_AGE = f"""SELECT
  $__timeInterval(ingest_time) AS bucket,
  {percentiles("age_ms")}
FROM
(
  SELECT
    ingest_time,
    greatest(toUnixTimestamp64Milli(ingest_time) - toUnixTimestamp64Milli(time), 0) AS age_ms
  FROM events
  WHERE $__timeFilter(ingest_time)
)
GROUP BY bucket
ORDER BY bucket"""

UNKNOWN_FIELDS = """SELECT
  $__timeInterval(handled_at) AS bucket,
  kafka_topic,
  sum(unknown_fields) AS fields
FROM ledger
WHERE $__timeFilter(handled_at)
GROUP BY bucket, kafka_topic
HAVING fields > 0
ORDER BY bucket"""

UNDELIVERED = """SELECT
  countIf(status = 'pending') AS pending,
  ifNull(dateDiff('second', minOrNullIf(created_at, status = 'pending'), $__toTime), 0) AS oldest_s,
  countIf(status = 'failed') AS given_up
FROM
(
  SELECT status, created_at
  FROM webhook_deliveries
  WHERE $__timeFilter(created_at)
  ORDER BY version DESC
  LIMIT 1 BY tenant_id, endpoint_id, delivery_id
)"""

ATTEMPTS = """SELECT
  tenant_id,
  endpoint_id,
  count() AS attempts,
  countIf(http_status BETWEEN 200 AND 299) AS delivered,
  quantileTDigest(0.95)(duration_ms) AS p95_ms,
  argMax(http_status, attempted_at) AS last_status,
  argMax(error, attempted_at) AS last_error,
  max(attempted_at) AS last_attempt
FROM webhook_attempts
WHERE $__timeFilter(attempted_at)
GROUP BY tenant_id, endpoint_id
ORDER BY delivered / attempts, attempts DESC
LIMIT 50"""

RETENTION = """SELECT
  run_at,
  tenant_id,
  kind,
  retention_days,
  cutoff,
  sum(rows_removed) AS rows_removed
FROM retention_runs
WHERE $__timeFilter(run_at)
GROUP BY run_at, tenant_id, kind, retention_days, cutoff
ORDER BY run_at DESC
LIMIT 50"""
