-- What a query by something else than tenant, kind and time may skip. None of these holds data of its own: they
-- need no row policy, and retention and erasure reach them with the rows.

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

-- For rows that are there already; in the background.
ALTER TABLE events
    MATERIALIZE INDEX events_time,
    MATERIALIZE INDEX events_kafka_offset,
    MATERIALIZE INDEX events_event_id,
    MATERIALIZE INDEX events_trace_id,
    MATERIALIZE INDEX events_user_id,
    MATERIALIZE INDEX events_source_ip
    SETTINGS mutations_sync = 0;
