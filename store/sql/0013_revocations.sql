-- A revocation is asked for as long as something lives that it ends: refresh tokens live for 7 days, access tokens for
-- minutes. Its id may name a person, so it stays no longer; a key that was revoked is never good again.
ALTER TABLE revocations
    MODIFY TTL toDateTime(revoked_at) + INTERVAL 8 DAY DELETE WHERE NOT startsWith(id, 'key:');
