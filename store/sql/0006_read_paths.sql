-- What a query by something else than tenant, kind and time may skip. All of it is part of the table: it needs no
-- row policy of its own, and retention and erasure reach it with the rows.

-- A part, or a granule of a large tenant, spans little time and few offsets: for ranges over all tenants, and for
-- what recovery and reconciliation read from the end of a partition.
ALTER TABLE events
    ADD INDEX IF NOT EXISTS events_time time TYPE minmax GRANULARITY 1,
    ADD INDEX IF NOT EXISTS events_kafka_offset kafka_offset TYPE minmax GRANULARITY 1;

-- Who did it, from where, which event: one value among millions, also over all tenants.
ALTER TABLE events
    ADD INDEX IF NOT EXISTS events_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS events_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS events_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS events_source_ip source_ip TYPE bloom_filter(0.01) GRANULARITY 1;

-- A user in one number, and the window of rate limits that the event fell in: neighbours differ by one. To count
-- users, and requests of users, by their texts costs several times as much.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS user_window UInt64
    MATERIALIZED if(user_id = '', 0,
        bitOr(bitShiftLeft(cityHash64(tenant_id, user_id), 32), intDiv(toUnixTimestamp(time), 900)))
    COMMENT 'above, 32 bits of a hash of tenant and user; below, time in 15 minutes; 0 for anonymous';

-- For rows that are there already; in the background.
ALTER TABLE events
    MATERIALIZE COLUMN user_window,
    MATERIALIZE INDEX events_time,
    MATERIALIZE INDEX events_kafka_offset,
    MATERIALIZE INDEX events_event_id,
    MATERIALIZE INDEX events_trace_id,
    MATERIALIZE INDEX events_user_id,
    MATERIALIZE INDEX events_source_ip
    SETTINGS mutations_sync = 0;
