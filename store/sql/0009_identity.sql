-- Who may call the API. Nothing in these tables lets anyone in: secrets are hashed, or encrypted with a key
-- that the store does not hold.

-- A key is its own OAuth2 client. tenant_id '' is the platform. Roles and permissions are what it was given;
-- what they come to is the program's to say. Revoking one is a row of `revocations`, so that no other change of
-- the key can undo it.
CREATE TABLE IF NOT EXISTS api_keys
(
    key_id              String,
    tenant_id           String,
    name                String,
    roles               Array(String),
    permissions         Array(String),
    secret_hash         String COMMENT 'SHA-256 of the secret, hexadecimal',
    signing_key         String COMMENT 'for signed requests, encrypted',
    previous_hash       String COMMENT 'holds beside the new one until previous_until',
    previous_signing_key String,
    previous_until      DateTime64(3, 'UTC'),
    created_at          DateTime64(3, 'UTC'),
    created_by          String,
    expires_at          DateTime64(3, 'UTC'),
    version             UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY key_id;

-- Last use of each key, written at most once a minute. Apart from the key, so that it undoes no change of it.
CREATE TABLE IF NOT EXISTS api_key_uses
(
    key_id    String,
    tenant_id String,
    used_at   DateTime64(3, 'UTC'),
    source_ip String
)
ENGINE = ReplacingMergeTree(used_at)
ORDER BY key_id;

-- What holds no longer. id is key:…, user:…, token:… (a jti) or family:… (of refresh tokens); whatever was
-- issued for it until revoked_at is dead. Of a tenant's row only that tenant's tokens die.
CREATE TABLE IF NOT EXISTS revocations
(
    id         String,
    tenant_id  String,
    revoked_at DateTime64(3, 'UTC'),
    revoked_by String,
    reason     LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY id;

-- Refresh tokens, by hash; each is used once, and all that follow from one sign-in are a family.
CREATE TABLE IF NOT EXISTS refresh_tokens
(
    token_hash        String COMMENT 'SHA-256 of the token, hexadecimal',
    family_id         String,
    subject           String,
    tenant_id         String,
    body              String COMMENT 'whom it is for and what for, as JSON',
    issued_at         DateTime64(3, 'UTC'),
    expires_at        DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY token_hash
TTL toDateTime(expires_at) + INTERVAL 1 DAY;

-- What may be used once: refresh tokens and the nonces of signed requests. Each use adds a row and then counts:
-- of two at once both find two, and neither passes.
CREATE TABLE IF NOT EXISTS single_uses
(
    id         String,
    claimed_by String,
    keep_until DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY id
TTL toDateTime(keep_until) + INTERVAL 1 DAY;
