-- Inserts without an answer that their own worker has given up. One that the server has not begun by then cannot be
-- killed: it is refused by its guard.
CREATE TABLE IF NOT EXISTS ended_inserts
(
    query_id String,
    ended_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY query_id
TTL toDateTime(ended_at) + INTERVAL 1 DAY;
