-- Every revision of every alert. A repeated revision replaces itself.
CREATE TABLE IF NOT EXISTS alerts
(
    tenant_id      String,
    alert_id       String,
    revision       UInt32,
    status         LowCardinality(String),
    detector       LowCardinality(String),
    classification LowCardinality(String),
    severity       Enum8('low' = 1, 'medium' = 2, 'high' = 3, 'critical' = 4),
    entity_type    LowCardinality(String),
    entity_value   String,
    first_time     DateTime64(3, 'UTC'),
    last_time      DateTime64(3, 'UTC'),
    detected_at    DateTime64(3, 'UTC'),
    published_at   DateTime64(3, 'UTC'),
    event_count    UInt64,
    score          Float64,
    threshold      Float64,
    summary        String,
    body           String COMMENT 'the whole revision as JSON'
)
ENGINE = ReplacingMergeTree(published_at)
PARTITION BY toYYYYMM(detected_at)
ORDER BY (tenant_id, alert_id, revision);

-- Settings of each tenant, one row for each version; the version is the offset in audit.tenants.
CREATE TABLE IF NOT EXISTS tenants
(
    tenant_id       String,
    version         Int64,
    deleted         UInt8,
    organization_id String,
    name            String,
    tier            LowCardinality(String),
    status          LowCardinality(String),
    region          LowCardinality(String),
    body            String COMMENT 'the whole record as JSON',
    applied_at      DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (tenant_id, version);

-- Detector state of a partition, with the offset it stands for.
CREATE TABLE IF NOT EXISTS snapshots
(
    kafka_cluster_id LowCardinality(String),
    kafka_topic_id   LowCardinality(String),
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    next_offset      Int64 COMMENT 'the first offset that is not in the state',
    detector         LowCardinality(String),
    format_version   UInt16,
    state            String CODEC(ZSTD(1)),
    created_at       DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(created_at)
ORDER BY (kafka_topic, kafka_topic_id, kafka_partition, detector, next_offset);

-- What the retention job removed, and why.
CREATE TABLE IF NOT EXISTS retention_runs
(
    run_at         DateTime64(3, 'UTC'),
    tenant_id      String,
    kind           LowCardinality(String),
    retention_days UInt32,
    cutoff         DateTime64(3, 'UTC'),
    rows_removed   UInt64
)
ENGINE = MergeTree
ORDER BY (run_at, tenant_id, kind);
