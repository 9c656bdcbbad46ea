-- What people did with alerts: acknowledged, resolved, reopened, commented. Apart from the revisions, which a repeat
-- replaces; the last entry that is no comment says how the alert is being handled.
CREATE TABLE IF NOT EXISTS alert_notes
(
    tenant_id  String,
    alert_id   String,
    note_id    String,
    action     LowCardinality(String) COMMENT 'acknowledge, resolve, reopen, comment',
    text       String,
    created_by String,
    created_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(created_at)
ORDER BY (tenant_id, alert_id, note_id);

-- Answers to requests that carried an Idempotency-Key, for whoever sends the same request again.
CREATE TABLE IF NOT EXISTS idempotent_answers
(
    tenant_id    String,
    subject      String COMMENT 'who sent it',
    key_hash     String COMMENT 'SHA-256 of the Idempotency-Key, hexadecimal',
    request_hash String COMMENT 'SHA-256 of the body, hexadecimal',
    answer       String COMMENT 'as JSON',
    created_at   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(created_at)
ORDER BY (tenant_id, subject, key_hash)
TTL toDateTime(created_at) + INTERVAL 1 DAY;

-- Backtests that were asked for, one row for each change of their status.
CREATE TABLE IF NOT EXISTS backtests
(
    tenant_id    String,
    backtest_id  String,
    status       LowCardinality(String) COMMENT 'running, finished, failed',
    request      String COMMENT 'as JSON',
    result       String COMMENT 'as JSON; empty while it runs',
    requested_by String,
    created_at   DateTime64(3, 'UTC'),
    changed_at   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY (tenant_id, backtest_id);
