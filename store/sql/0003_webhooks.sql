-- Where alerts are delivered. tenant_id '' is the platform: it receives every tenant's alerts.
CREATE TABLE IF NOT EXISTS webhook_endpoints
(
    endpoint_id           String,
    tenant_id             String,
    url                   String,
    description           String,
    min_severity          LowCardinality(String),
    secret                String,
    previous_secret       String COMMENT 'signs beside the new one while receivers change over',
    previous_secret_until DateTime64(3, 'UTC'),
    status                LowCardinality(String) COMMENT 'enabled, disabled, deleted',
    status_reason         String,
    created_at            DateTime64(3, 'UTC'),
    version               UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant_id, endpoint_id);

-- The queue and its outcome: one row for each alert revision and endpoint, the newest version counts.
-- A row enters with version 0, so that entering it again never undoes what became of it.
CREATE TABLE IF NOT EXISTS webhook_deliveries
(
    delivery_id     String COMMENT 'the webhook-id header: the same over all attempts',
    endpoint_id     String,
    tenant_id       String COMMENT 'of the endpoint: empty for the platform, whoever the alert is about',
    alert_id        String,
    revision        UInt32,
    event_type      LowCardinality(String) COMMENT 'alert.opened, alert.updated, alert.resolved',
    kafka_partition Int32 COMMENT 'of audit.alerts: the worker that owns it delivers',
    body            String,
    status          LowCardinality(String) COMMENT 'pending, delivered, failed, cancelled',
    status_reason   String,
    attempts        UInt16 COMMENT 'made in this round; a redelivery starts a new one',
    next_attempt_at DateTime64(3, 'UTC'),
    created_at      DateTime64(3, 'UTC'),
    version         UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant_id, endpoint_id, delivery_id);

-- The delivery log: one row for each attempt.
CREATE TABLE IF NOT EXISTS webhook_attempts
(
    delivery_id  String,
    endpoint_id  String,
    tenant_id    String,
    attempt      UInt16,
    attempted_at DateTime64(3, 'UTC'),
    duration_ms  UInt32,
    http_status  UInt16 COMMENT '0 when no answer came',
    error        String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(attempted_at)
ORDER BY (tenant_id, endpoint_id, delivery_id, attempted_at);
