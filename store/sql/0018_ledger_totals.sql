-- What reconciliation has found in order, by partition: everything before next_offset. The next check begins there,
-- and of the ledger only the latest weeks are kept. More than one is kept of each partition, because a total holds
-- only until a later owner begins before its end.
CREATE TABLE IF NOT EXISTS ledger_totals
(
    kafka_cluster_id LowCardinality(String),
    kafka_topic_id   LowCardinality(String),
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    first_offset     Int64,
    next_offset      Int64,
    term             Int64 COMMENT 'of the latest owner whose rows are in it',
    rows             UInt64 COMMENT 'events stored, or stored already',
    rejected         UInt64,
    evaluated        UInt64,
    handled_until    DateTime64(3, 'UTC') COMMENT 'the latest handled_at of the ledger rows in it'
)
ENGINE = ReplacingMergeTree
ORDER BY (kafka_topic, kafka_topic_id, kafka_partition, next_offset, kafka_cluster_id);
