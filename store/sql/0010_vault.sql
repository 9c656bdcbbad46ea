-- Personal data (docs/privacy.md): originals of what the trail holds pseudonyms of, and who may still read them.

-- Keys, wrapped by a master key that no table holds. The one row without a tenant is the root of the pseudonym
-- keys; its insert is deduplicated by a token, so that of two workers that start at once one wins.
CREATE TABLE IF NOT EXISTS tenant_keys
(
    tenant_id     String,
    key_id        String,
    wrapped       String COMMENT 'the key, encrypted under the master key, in base64',
    master_key_id LowCardinality(String),
    created_at    DateTime64(3, 'UTC'),
    wrapped_at    DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(wrapped_at)
ORDER BY (tenant_id, key_id)
SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 1;

-- One row for each person of a tenant, which is whole in itself: of two that concurrent workers wrote, either
-- will do. Forgetting deletes it; that old parts leave the disk at once is part of that.
CREATE TABLE IF NOT EXISTS vault
(
    tenant_id   String,
    pseudonym   String,
    key_id      String COMMENT 'of the tenant''s key',
    wrapped_key String COMMENT 'the key of this person, encrypted under the tenant''s, bytes',
    original    String COMMENT 'encrypted under the key of this person, bytes',
    stored_at   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(stored_at)
ORDER BY (tenant_id, pseudonym)
SETTINGS old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 2, cleanup_delay_period_random_add = 0;

-- Who was forgotten when. Workers compare the count of rows with what they know before they store a person.
CREATE TABLE IF NOT EXISTS shreddings
(
    tenant_id      String,
    pseudonym      String,
    forgotten_at   DateTime64(3, 'UTC'),
    certificate_id String
)
ENGINE = MergeTree
ORDER BY (tenant_id, pseudonym, forgotten_at);

-- An empty pseudonym holds the whole tenant.
CREATE TABLE IF NOT EXISTS legal_holds
(
    hold_id    String,
    tenant_id  String,
    pseudonym  String,
    reason     String,
    placed_by  String,
    placed_at  DateTime64(3, 'UTC'),
    released   UInt8,
    changed_by String,
    changed_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY (tenant_id, hold_id);

-- What was done with personal data, by whom and why; no originals.
CREATE TABLE IF NOT EXISTS privacy_log
(
    at         DateTime64(3, 'UTC'),
    entry_id   String,
    action     LowCardinality(String) COMMENT 'reveal, export, forget, hold, release, rotate_keys',
    tenant_id  String,
    pseudonyms Array(String),
    actor      String,
    reason     String,
    body       String COMMENT 'JSON: the certificate of a forget, counts of others'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant_id, at);
