-- The trail. One row per event of every kind; columns of other kinds keep their defaults and cost nothing.
-- In text columns '' stands for the contract's null: no field of the contract may hold an empty string and
-- mean something by it, and Nullable would cost a mask for each column.
-- Partitions follow ingest_time, so that an import of a year of old logs writes one part, not twelve.
CREATE TABLE IF NOT EXISTS events
(
    tenant_id          String,
    kind               LowCardinality(String),
    time               DateTime64(3, 'UTC'),
    event_id           String,
    service            LowCardinality(String),
    user_id            String,
    source_ip          String,
    user_agent         String,
    session_id         String,
    trace_id           String,
    token_id           String,
    token_tenant_id    LowCardinality(String),
    outcome            LowCardinality(String),
    reason             LowCardinality(String),
    attributes         String COMMENT 'JSON text',

    action             LowCardinality(String),
    auth_method        LowCardinality(String),

    permission         LowCardinality(String),
    resource_type      LowCardinality(String),
    resource_id        String,
    resource_tenant_id LowCardinality(String),
    record_count       Nullable(Int64),

    http_method        LowCardinality(String),
    http_route         LowCardinality(String),
    http_path          String,
    http_status        Nullable(UInt16),
    duration_ms        Nullable(Float64),
    bytes_in           Nullable(Int64),
    bytes_out          Nullable(Int64),
    api_key_id         String,

    organization_id    LowCardinality(String),
    tier               LowCardinality(String),
    region             LowCardinality(String),
    tenant_status      LowCardinality(String),
    tenant_version     Int64 COMMENT 'offset in audit.tenants of the settings that the event was enriched with',
    ingest_time        DateTime64(3, 'UTC'),
    flags              UInt8 COMMENT '1 late, 2 future, 4 duplicate, 8 wrong_partition; 0 was evaluated by the detectors',

    kafka_cluster_id   LowCardinality(String),
    kafka_topic_id     LowCardinality(String),
    kafka_topic        LowCardinality(String),
    kafka_partition    Int32,
    kafka_offset       Int64,
    message_index      UInt16
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ingest_time)
PRIMARY KEY (tenant_id, kind, time)
ORDER BY (tenant_id, kind, time, kafka_partition, kafka_offset, message_index);

-- What could not be stored as an event: where it is in Kafka and why. The original bytes are in the topic
-- audit.dead-letters only, so that personal data in them lives no longer than Kafka keeps it.
CREATE TABLE IF NOT EXISTS dead_letters
(
    tenant_id        String COMMENT 'the message key; not necessarily a tenant',
    kind             LowCardinality(String),
    reason           LowCardinality(String),
    detail           String,
    rejected_indexes Array(UInt16) COMMENT 'positions in the message''s array',
    value_bytes      UInt32,
    rejected_at      DateTime64(3, 'UTC'),
    kafka_cluster_id LowCardinality(String),
    kafka_topic_id   LowCardinality(String),
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    kafka_offset     Int64
)
ENGINE = ReplacingMergeTree(rejected_at)
PARTITION BY toYYYYMM(rejected_at)
ORDER BY (tenant_id, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason);

-- One row for each handled chunk of records: the account that reconciliation reads.
CREATE TABLE IF NOT EXISTS ledger
(
    kafka_cluster_id LowCardinality(String),
    kafka_topic_id   LowCardinality(String),
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    first_offset     Int64,
    last_offset      Int64,
    records          UInt32 COMMENT 'messages received in the interval',
    stored           UInt32 COMMENT 'events',
    rejected         UInt32 COMMENT 'events',
    skipped          UInt32 COMMENT 'events that were stored already',
    evaluated        UInt32 COMMENT 'events handed to the detectors',
    alerts           UInt32 COMMENT 'alert revisions published',
    unknown_fields   UInt32,
    worker_id        LowCardinality(String),
    handled_at       DateTime64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(handled_at)
ORDER BY (kafka_topic, kafka_topic_id, kafka_partition, first_offset);
