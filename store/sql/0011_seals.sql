-- Seals of the trail. A chain for each tenant and partition of a Kafka cluster; tenant_id '' is the partition's own,
-- which names every tenant's seals of a round, so that none of them can be taken away unseen. What counts is the
-- signed body; the columns beside it are for finding it. Not a ReplacingMergeTree: a fork must stay visible.
CREATE TABLE IF NOT EXISTS seals
(
    tenant_id        String COMMENT 'empty: the chain of the partition',
    kafka_cluster_id LowCardinality(String),
    kafka_partition  Int32,
    sequence         Int64 COMMENT 'in its chain, from 1',
    rows             Int64,
    first_ingest     DateTime64(3, 'UTC') COMMENT 'ingest_time of the first row',
    last_ingest      DateTime64(3, 'UTC'),
    sealed_at        DateTime64(3, 'UTC'),
    body             String COMMENT 'JSON, exactly the bytes that are signed' CODEC(ZSTD(1)),
    signature        String COMMENT 'Ed25519, base64',
    contents         String COMMENT 'what the body holds the digest of: rows, or the seals of a round' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(sealed_at)
ORDER BY (tenant_id, kafka_cluster_id, kafka_partition, sequence);

-- Signed statements: what retention removed, who was forgotten, which key follows which. One that is taken away
-- excuses nothing any more, so these need no chain.
CREATE TABLE IF NOT EXISTS seal_statements
(
    tenant_id String COMMENT 'empty: the platform',
    kind      LowCardinality(String) COMMENT 'retention, shredded, key',
    stated_at DateTime64(3, 'UTC'),
    body      String COMMENT 'JSON, exactly the bytes that are signed',
    signature String COMMENT 'Ed25519, base64'
)
ENGINE = MergeTree
ORDER BY (tenant_id, kind, stated_at);
