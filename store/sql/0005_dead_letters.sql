-- Dead letters that were sent again, by where their message was. Beside dead_letters and not in it, because a
-- redelivery replaces those rows.
CREATE TABLE IF NOT EXISTS redrives
(
    tenant_id        String COMMENT 'as in dead_letters',
    kafka_cluster_id LowCardinality(String),
    kafka_topic_id   LowCardinality(String),
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    kafka_offset     Int64,
    status           LowCardinality(String) COMMENT 'sending; then sent, or failed, which may be tried again',
    changed_at       DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY (tenant_id, kafka_topic, kafka_topic_id, kafka_cluster_id, kafka_partition, kafka_offset);
