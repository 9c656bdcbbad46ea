-- Every topic `audit.tenants` that this store has met. Offsets begin again in a new one: what is told there is newer
-- than all that was told in the ones before it.
CREATE TABLE IF NOT EXISTS directories
(
    kafka_cluster_id String,
    kafka_topic_id   String,
    number           UInt32 COMMENT 'how many there were before it',
    met_at           DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(met_at)
ORDER BY (kafka_cluster_id, kafka_topic_id);
