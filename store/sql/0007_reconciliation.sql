-- What retention removed is accounted for by partition. A run is written with what it is about to remove, and
-- named here when that is gone: a run that a crash cut short is finished by the next, and counted once.
ALTER TABLE retention_runs ADD COLUMN IF NOT EXISTS kafka_cluster_id LowCardinality(String);
ALTER TABLE retention_runs ADD COLUMN IF NOT EXISTS kafka_topic_id LowCardinality(String);
ALTER TABLE retention_runs ADD COLUMN IF NOT EXISTS kafka_topic LowCardinality(String);
ALTER TABLE retention_runs ADD COLUMN IF NOT EXISTS kafka_partition Int32;
ALTER TABLE retention_runs ADD COLUMN IF NOT EXISTS evaluated_removed UInt64
    COMMENT 'of the rows removed, those that detectors had evaluated';
CREATE TABLE IF NOT EXISTS retention_finished
(
    run_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY run_at;
