-- The operator's overrides of detector parameters, one row for each version of the record; the version is its
-- offset in audit.tenants.
CREATE TABLE IF NOT EXISTS tuning
(
    version    Int64,
    body       String COMMENT 'the whole record as JSON',
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY version;

ALTER TABLE events ADD COLUMN IF NOT EXISTS tuning_version Int64 DEFAULT -1
    COMMENT 'offset in audit.tenants of the operator''s overrides that the event was enriched with; -1: none';
