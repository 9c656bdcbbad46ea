-- Who may store a partition's rows. A worker that is assigned a partition claims it with the next term; the
-- server refuses the inserts of older terms, so that an owner who hung and woke up doubles nothing.
CREATE TABLE IF NOT EXISTS ownership
(
    kafka_cluster_id LowCardinality(String),
    kafka_topic_id   LowCardinality(String),
    kafka_topic      LowCardinality(String),
    kafka_partition  Int32,
    term             Int64 COMMENT 'one more than the last; the highest (term, generation) owns the partition',
    generation       Int64 COMMENT 'of the consumer group; tells apart two claims to one term',
    start_offset     Int64 COMMENT 'the committed offset: ledger rows of older terms from here on do not count',
    worker_id        LowCardinality(String),
    claimed_at       DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (kafka_topic_id, kafka_partition, term, generation);

-- first_offset is where the interval before it ended, so that intervals meet whatever Kafka left out between
-- them (transaction markers, compaction).
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS term Int64 COMMENT 'of the owner that handled the chunk';
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS evaluated_by Map(LowCardinality(String), UInt32)
    COMMENT 'events handed to each detector';
