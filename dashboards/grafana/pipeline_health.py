"""Pipeline health: do events get through, how late, and what is lost on the way."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from dashboards.grafana.board import Row, board
from dashboards.grafana.clickhouse import Shape, Sql, promql
from dashboards.grafana.panels import graph, number, rows
from dashboards.grafana.pipeline_queries import (
    ATTEMPTS,
    EVENT_AGE,
    FLAGGED,
    FLAGGED_SOURCES,
    LAG,
    LEDGER,
    RETENTION,
    UNDELIVERED,
    UNKNOWN_FIELDS,
    WORKERS,
    WORKERS_UP,
    quantile,
    rate,
)


def pipeline_health() -> models.Dashboard:
    """Return the dashboard for who runs tenantwatch; its alerts are in ``dashboards/prometheus``."""
    return board(
        "pipeline-health",
        "tenantwatch: pipeline health",
        "For who runs the pipeline: throughput, delay, losses and delivery, over all tenants.",
        [],
        {
            "Now": [_now(), _flow()],
            "Store": [_store()],
            "Lost, late or misplaced": [_lost(), _flagged()],
            "Alerts and their delivery": [_alerts(), _webhooks()],
            "Accounts": [_ledger(), _age()],
            "Seals of the trail": [_sealing()],
            "Restarts": [_takeover()],
        },
        since="now-3h",
    )


def _now() -> Row:
    return [
        number(
            "Workers up",
            promql(WORKERS_UP, "workers", instant=True),
            see="Workers that answer Prometheus.",
            worry="it is below the number that you run; at 0 nothing is stored or detected.",
            act="see `docker compose ps` and the worker's log; its last line says why it stopped.",
            unit=units.Short,
            width=3,
            base="red",
            thresholds={1: "yellow", 2: "green"},
        ),
        number(
            "Store",
            promql("min(tenantwatch_store_up)", "1 is up", instant=True),
            see="1 while every worker's inserts succeed, 0 while any waits for ClickHouse.",
            worry="it is 0: events stay in Kafka, nothing is lost, alerts are late.",
            act="bring ClickHouse back; the workers go on by themselves.",
            unit=units.Short,
            width=3,
            base="red",
            thresholds={1: "green"},
        ),
        number(
            "Tenant directory",
            promql("min(tenantwatch_directory_ready)", "1 is ready", instant=True),
            see="1 once every worker has read the topic `audit.tenants`.",
            worry="it stays 0 for minutes after a start: event partitions stay paused until then.",
            act="see that the topic exists and that its leader is up.",
            unit=units.Short,
            width=3,
            base="red",
            thresholds={1: "green"},
        ),
        number(
            "Tenants",
            promql("max(tenantwatch_tenants)", "tenants", instant=True),
            see="Tenants in the directory. Events of any other tenant are dead letters.",
            worry="it is not the number of tenants that you have.",
            act="compare with `tenantwatch tenants list`; import those that are missing.",
            unit=units.Short,
            width=3,
        ),
        number(
            "Lag",
            promql(f"sum({LAG})", "messages", instant=True),
            see="Messages in Kafka that no worker has committed yet.",
            worry="it grows for ten minutes.",
            act="see below whether inserts are slow or traffic has grown; add a worker in the second case.",
            unit=units.Short,
            width=4,
            thresholds={10_000: "yellow", 1_000_000: "red"},
        ),
        number(
            "Webhooks",
            Sql(UNDELIVERED),
            see="Deliveries created in the time range: waiting, age of the oldest (seconds), given up.",
            worry="the oldest waits for more than ten minutes, or any was given up: a tenant was not told.",
            act="find the endpoint in *Webhook endpoints* below and write to the tenant's contact.",
            unit=units.Short,
            width=8,
            colors={"given_up": "red"},
        ),
    ]


def _flow() -> Row:
    return [
        graph(
            "Events stored per second",
            promql(rate("tenantwatch_events_stored_total", "kind"), "{{kind}}"),
            see="Events stored by all workers, by kind.",
            worry="it falls while the lag grows.",
            act="see the stages and the inserts below.",
            unit=units.EventsPerSecond,
            width=8,
        ),
        graph(
            "Lag by topic",
            promql(LAG, "{{topic}}"),
            see="Messages that are not committed yet, by topic.",
            worry="a line rises steadily: the workers are slower than the producers.",
            act="add a worker (up to one for each partition), or find the slow stage.",
            unit=units.Short,
            width=8,
        ),
        graph(
            "Seconds of work per second, by stage",
            promql(rate("tenantwatch_stage_seconds_total", "stage"), "{{stage}}"),
            see="How much of each second all workers together spend in each stage.",
            worry="one stage nears the number of workers: it is the bottleneck.",
            act="insert: see ClickHouse. Parse or detect: add a worker.",
            unit=units.Seconds,
            width=8,
            bars=True,
        ),
    ]


def _store() -> Row:
    return [
        graph(
            "Time of an insert",
            promql(quantile(0.5, "tenantwatch_insert_seconds"), "p50", "A"),
            promql(quantile(0.95, "tenantwatch_insert_seconds"), "p95", "B"),
            promql(quantile(0.99, "tenantwatch_insert_seconds"), "p99", "C"),
            see="Time that ClickHouse takes for one block of events.",
            worry="the 99th percentile stays above 5 seconds (dashed).",
            act="look for merges, full disks or heavy queries in ClickHouse.",
            unit=units.Seconds,
            width=8,
            limit=5,
        ),
        graph(
            "Failed inserts",
            promql(
                "sum by (instance) (increase(tenantwatch_insert_retries_total[$__rate_interval]))",
                "{{instance}}",
            ),
            see="Inserts that failed and were tried again, by worker.",
            worry="there is more than a single bar: the store refuses again and again.",
            act="read `insert_retried` in the worker's log, which has ClickHouse's own words.",
            unit=units.Short,
            width=8,
            bars=True,
        ),
        graph(
            "Rows waiting",
            promql("sum by (instance) (tenantwatch_rows_pending)", "{{instance}}"),
            see="Rows that were received and are not stored yet, by worker.",
            worry="it stays high and flat: the queue is full and the worker holds Kafka back.",
            act="see the time of an insert beside it.",
            unit=units.Short,
            width=8,
        ),
    ]


def _lost() -> Row:
    return [
        graph(
            "Dead letters per second, by reason",
            promql(rate("tenantwatch_dead_letters_total", "reason") + " > 0", "{{reason}}"),
            see="Messages that could not be stored as events.",
            worry="there is any: what is in them is missing from the trail.",
            act="open the overview, whose last table shows the details, and tell the producer's owner.",
            unit=units.CountsPerSecond,
            width=8,
            bars=True,
        ),
        graph(
            "Events stored and not evaluated",
            Sql(FLAGGED, Shape.TIME_SERIES),
            see="Events that no detector saw: late (over 15 minutes), future, repeated, in a partition that "
            "is not their key's, or of a planned test.",
            worry="wrong_partition appears at all, or late events are more than a backfill explains.",
            act="wrong_partition: the producer must partition by murmur2. Future: fix its clock.",
            unit=units.Short,
            width=8,
            bars=True,
            colors={"wrong_partition": "red", "future": "orange"},
        ),
        graph(
            "Unknown fields",
            Sql(UNKNOWN_FIELDS, Shape.TIME_SERIES),
            see="Fields that the contract does not know, by topic; they were kept under `attributes`.",
            worry="they appear after a release of a producer: a name may be misspelt.",
            act="run `tenantwatch validate` on a sample; it names the nearest known field.",
            unit=units.Short,
            width=8,
            bars=True,
            label="kafka_topic",
        ),
    ]


def _flagged() -> Row:
    return [
        rows(
            "Services whose events were not evaluated",
            Sql(FLAGGED_SOURCES),
            see="Which services send late, future, repeated or misplaced events, or those of planned tests.",
            worry="a service has any wrong_partition, or most of its events are flagged and no test is "
            "planned.",
            act="tell the service's owner; `tenantwatch doctor` explains each flag.",
            width=24,
            height=7,
        )
    ]


def _alerts() -> Row:
    return [
        graph(
            "From event to alert",
            promql(quantile(0.5, "tenantwatch_alert_latency_seconds"), "p50", "A"),
            promql(quantile(0.95, "tenantwatch_alert_latency_seconds"), "p95", "B"),
            promql(quantile(0.99, "tenantwatch_alert_latency_seconds"), "p99", "C"),
            see="From the event's arrival in Kafka to its alert being acknowledged by Kafka.",
            worry="the 99th percentile stays above 5 seconds (dashed) without a backlog.",
            act="see the lag first: after an outage it is high until the backlog is worked off.",
            unit=units.Seconds,
            width=8,
            limit=5,
        ),
        graph(
            "Alert revisions per second",
            promql(rate("tenantwatch_alerts_published_total", "detector"), "{{detector}}"),
            see="Alerts and their updates, by detector.",
            worry="one detector floods: its parameters do not fit a tenant.",
            act="find the tenant on the overview; override the detector's parameters for it.",
            unit=units.CountsPerSecond,
            width=8,
        ),
        graph(
            "Webhook attempts per second",
            promql(rate("tenantwatch_webhook_attempts_total", "result"), "{{result}}", "A"),
            promql("sum(tenantwatch_webhooks_pending)", "waiting", "B"),
            see="Attempts by result, and deliveries that wait for one.",
            worry="failed appears (given up), or retried outweighs delivered.",
            act="see the endpoints below.",
            unit=units.Short,
            width=8,
            colors={"delivered": "green", "retried": "orange", "failed": "red"},
        ),
    ]


def _webhooks() -> Row:
    return [
        rows(
            "Webhook endpoints",
            Sql(ATTEMPTS),
            see="Endpoints by share of attempts answered 2xx, the worst first. Status 0: no answer.",
            worry="an endpoint has delivered nothing.",
            act="tell the tenant's contact what its endpoint answered.",
            width=24,
            column_units={"p95_ms": units.Milliseconds, "last_status": units.NoUnit},
            height=8,
        )
    ]


def _takeover() -> Row:
    return [
        graph(
            "Warm-up and events delivered again",
            promql("max by (instance) (tenantwatch_recovery_seconds)", "warm-up {{instance}}", "A"),
            promql("sum(rate(tenantwatch_recovery_events_total[$__rate_interval]))", "folded again", "B"),
            promql(rate("tenantwatch_events_skipped_total", "kind"), "stored already {{kind}}", "C"),
            see="Seconds from the latest assignment to its first event, and events that it read once more.",
            worry="warm-up takes minutes: alerts are late by as much after each rebalance.",
            act="take snapshots more often (TENANTWATCH_SNAPSHOT_INTERVAL_S), or see whether they fail.",
            unit=units.Short,
            width=12,
        ),
        graph(
            "Snapshots",
            promql(quantile(0.95, "tenantwatch_snapshot_seconds"), "p95 seconds", "A"),
            promql("sum(increase(tenantwatch_snapshot_bytes_total[1h])) / 1e6", "MB an hour", "B"),
            see="Time that a partition's snapshot takes, and how much they write.",
            worry="they stop while events flow: a restart would read all events since the last one.",
            act="see whether inserts fail.",
            unit=units.Short,
            width=12,
        ),
    ]


def _sealing() -> Row:
    return [
        graph(
            "Not sealed yet",
            promql("max by (instance) (tenantwatch_unsealed_age_seconds)", "oldest row {{instance}}", "A"),
            promql(quantile(0.95, "tenantwatch_seal_seconds"), "p95 of sealing", "B"),
            see="Age of the oldest row that no seal covers, and how long sealing takes.",
            worry="the age is above some minutes: what is not sealed can be changed unseen.",
            act="look for sealing_postponed in the worker's log; sealing needs the store.",
            unit=units.Seconds,
            width=12,
        ),
        graph(
            "Seals and anchors",
            promql("sum(rate(tenantwatch_rows_sealed_total[$__rate_interval]))", "rows/s", "A"),
            promql("sum(rate(tenantwatch_seals_total[$__rate_interval]))", "seals/s", "B"),
            promql(
                "sum by (target) (increase(tenantwatch_anchors_failed_total[1h]))",
                "not anchored {{target}}",
                "C",
            ),
            promql("sum(tenantwatch_seal_chains_cut)", "chains cut off", "D"),
            see="Rows and seals a second; anchors that could not be sent; chains that have lost their end.",
            worry="a chain is cut off, or anchors fail for hours: a loss at the end would go unseen.",
            act="run tenantwatch verify.",
            unit=units.Short,
            width=12,
        ),
    ]


def _ledger() -> Row:
    return [
        graph(
            "Events per second, as accounted",
            Sql(LEDGER, Shape.TIME_SERIES),
            see="What became of the events of each handled chunk, from the ledger.",
            worry="skipped stays above zero: a worker restarts or partitions move again and again.",
            act="see the workers beside it, and reconcile: the ledger's intervals must meet.",
            unit=units.EventsPerSecond,
            width=10,
        ),
        rows(
            "Workers and topics",
            Sql(WORKERS),
            see="What each worker handled, from how many partitions, and when last.",
            worry="one worker has most of the partitions, or one was last heard of long ago.",
            act="restart the silent worker; its partitions move within seconds.",
            width=14,
            height=8,
        ),
    ]


def _age() -> Row:
    return [
        graph(
            "Age of events when received",
            Sql(EVENT_AGE, Shape.TIME_SERIES),
            see="From the event's own time to when a worker received it.",
            worry="the median is minutes: producers buffer, or the workers lag behind.",
            act="see the lag; if it is small, the delay is the producer's.",
            unit=units.Milliseconds,
            width=10,
        ),
        rows(
            "What retention removed",
            Sql(RETENTION),
            see="Runs of the daily retention job: what was removed, for which tenant and kind.",
            worry="there was no run for two days, or a cutoff is not what the tenant agreed to.",
            act="see the tenant's `retention_days`.",
            width=14,
            height=8,
        ),
    ]
