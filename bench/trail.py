"""A store that has run for 90 days, made by the engine itself: every table, by INSERT from `numbers`.

Sizes of tenants and users are as unequal as real ones, days have nights, events arrive seconds after they
happened and some come late. The same row numbers always give the same rows.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from store.database import Database

DAYS: Final = 90
TENANTS: Final = 3_000
USERS: Final = 1_000_000
BLOCK_ROWS: Final = 1_000_000
ALERT_REVISIONS: Final = 100_000
LEDGER_ROWS: Final = 1_000_000
DEAD_LETTERS: Final = 50_000
DELIVERIES: Final = 60_000
PARTITIONS: Final = 12
SESSION_MS: Final = 120_000
SESSION_EVENTS: Final = 8  # a person opens a page, and it makes several requests

# The n-th tenant of T holds the users between the fourth roots of n/T and (n+1)/T: the largest has one in
# eight of all events, the median one in 7,000.
_TENANT_OF_USER: Final = f"toUInt32(floor({TENANTS} * pow(user_n / {USERS}, 4)))"


def _u(salt: int, of: str = "n") -> str:
    """Return SQL for a number from 0 to 1 that depends on the row and the salt only."""
    return f"(cityHash64({of}, {salt}) / 18446744073709551616.)"


def _pick(words: str, u: str) -> str:
    """Return SQL that chooses one of some words; the first half of them much more often."""
    listed = words.split()
    quoted = ", ".join(f"'{word}'" for word in listed)
    return f"[{quoted}][1 + toUInt8(floor({len(listed)} * pow({u}, 2)))]"


# Arrival: even over the days, but by day more than by night; in milliseconds, never backwards.
_ARRIVAL: Final = (
    "{start_ms:Int64} + toInt64("
    "n / {rows:Int64} * {span_ms:Int64} "
    "+ 11000000 * sin(n / {rows:Int64} * {span_ms:Int64} * 2 * pi() / 86400000))"
)

_EVENTS: Final = f"""
INSERT INTO events
(
    tenant_id, kind, time, event_id, service, user_id, source_ip, user_agent, session_id, trace_id, token_id,
    token_tenant_id, outcome, reason, attributes, action, auth_method, permission, resource_type, resource_id,
    resource_tenant_id, record_count, http_method, http_route, http_path, http_status, duration_ms, bytes_in,
    bytes_out, api_key_id, organization_id, tier, region, tenant_status, tenant_version, ingest_time, flags,
    kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, kafka_offset, message_index
)
WITH
    toInt64(number) AS n,
    {_ARRIVAL} AS arrival_ms,
    (intDiv(arrival_ms, {SESSION_MS}), cityHash64(n) % {{sessions:UInt32}}) AS session,
    {_u(1, "session")} AS u1,
    {_u(2, "session")} AS u2,
    {_u(3)} AS u3,
    {_u(4)} AS u4,
    if(u1 < 0.3, 100 * toUInt32(floor({USERS // 100} * u2)), toUInt32(floor({USERS} * u2))) AS user_n,
    {_TENANT_OF_USER} AS tenant_n,
    concat('tenant-', toString(tenant_n)) AS tenant,
    multiIf(u3 < 0.15, 'auth', u3 < 0.3, 'access', 'request') AS chosen,
    chosen = 'auth' AS is_auth,
    chosen = 'access' AS is_access,
    chosen = 'request' AS is_request,
    is_auth AND {_u(5)} < 0.02 AS attack,
    arrival_ms - toInt64(multiIf({_u(6)} < 0.01, 20000000 * {_u(7)}, -800 * log({_u(7)} + 1e-9))) AS time_ms,
    multiIf(attack, 1, u4 < multiIf(is_auth, 0.1, is_access, 0.04, 0.03), 1, 0) AS failed,
    is_access AND {_u(8)} < 0.0005 AS crossing
SELECT
    tenant,
    chosen,
    fromUnixTimestamp64Milli(time_ms, 'UTC'),
    lower(concat(substring(hex(time_ms), 1, 8), '-', substring(hex(time_ms), 9, 4),
        '-7', substring(hex(cityHash64(n, 10)), 1, 3), '-8', substring(hex(cityHash64(n, 10)), 5, 3),
        '-', substring(hex(cityHash64(n, 11)), 1, 12))),
    {_pick("gateway billing-api jobs-api identity files-api search reports admin", _u(12))},
    if({_u(13)} < 0.03, '', concat('user-', toString(user_n))),
    IPv4NumToString(toUInt32(3323068416 + if(attack, toUInt64(n % 50),
        cityHash64(user_n, toUInt8(floor(3 * pow({_u(14)}, 3)))) % 131072))),  -- 198.18.0.0/15
    concat('Mozilla/5.0 (client ', toString(cityHash64(user_n) % 200), ') like Gecko/20100101'),
    lower(hex(cityHash64(user_n, intDiv(arrival_ms, 28800000)))),
    if(is_auth, '', lower(concat(hex(cityHash64(n, 15)), hex(cityHash64(n, 16))))),
    lower(hex(cityHash64(user_n, intDiv(arrival_ms, 3600000), 17))),
    multiIf(crossing AND n % 2 = 0, concat('tenant-', toString((tenant_n + 1) % {TENANTS})),
        {_u(18)} < 0.2, tenant, ''),
    if(failed, 'failure', 'success'),
    multiIf(NOT failed, '', attack, 'unknown_user',
        is_auth, {_pick("bad_password mfa_failed unknown_user locked expired", _u(19))},
        is_access, 'missing_permission', ''),
    if({_u(20)} < 0.3, concat('{{"build":"', toString(n % 40), '","port":', toString(n % 50000), '}}'), ''),
    multiIf(is_auth, {_pick("login login token_refresh mfa logout token_issue", _u(21))},
        is_access, {_pick("read read read update create delete export grant", _u(21))}, ''),
    if(is_auth, {_pick("password sso mfa oauth2", _u(22))}, ''),
    if(is_access, concat({_pick("jobs files users invoices reports settings keys roles", _u(23))}, ':',
        {_pick("read read write delete export", _u(21))}), ''),
    if(is_access, {_pick("job file user invoice report setting key role", _u(23))}, ''),
    if(is_access, concat('res-', toString(cityHash64(n, 24) % 5000000)), ''),
    multiIf(crossing AND n % 2 = 1, concat('tenant-', toString((tenant_n + 7) % {TENANTS})),
        is_access AND {_u(25)} < 0.5, tenant, ''),
    if(is_access, toInt64(-20 * log({_u(26)} + 1e-9)), NULL),
    if(is_request, {_pick("GET GET POST PUT DELETE", _u(27))}, ''),
    if(is_request, concat('/v1/{{resource}}/', toString(toUInt8(floor(150 * pow({_u(28)}, 3))))), ''),
    if(is_request, concat('/v1/', toString(cityHash64(n, 29) % 1000000), '/', toString(n % 150)), ''),
    if(is_request, multiIf(NOT failed, 200, {_u(30)} < 0.5, 404, {_u(30)} < 0.8, 429, 500), NULL),
    if(is_request, round(-40 * log({_u(31)} + 1e-9) + if({_u(32)} < 0.01, 1500, 0), 1), NULL),
    if(is_request, toInt64(-300 * log({_u(33)} + 1e-9)), NULL),
    if(is_request, toInt64(-4000 * log({_u(34)} + 1e-9)), NULL),
    if(is_request AND user_n % 5 < 2, concat('key-', toString(user_n)), ''),
    concat('org-', toString(intDiv(tenant_n, 3))),
    multiIf(tenant_n % 10 = 0, 'enterprise', tenant_n % 10 < 5, 'standard', 'free'),
    if(tenant_n % 4 = 0, 'us', 'eu'),
    'active',
    toInt64({TENANTS} + tenant_n),
    fromUnixTimestamp64Milli(arrival_ms, 'UTC'),
    multiIf(arrival_ms - time_ms > 900000, 1, {_u(35)} < 0.0005, 2, {_u(35)} < 0.001, 4, 0),
    'cluster',
    concat('id-', chosen),
    concat('audit.', chosen),
    toInt32(tenant_n % {PARTITIONS}),
    intDiv(n, 36),
    toUInt16(n % 36)
FROM numbers({{first:UInt64}}, {{count:UInt64}})
SETTINGS max_threads = 1
"""

_ALERTS: Final = f"""
INSERT INTO alerts
WITH
    toInt64(intDiv(number, 4)) AS n,
    number % 4 + 1 AS revision_n,
    concat('tenant-', toString(toUInt32(floor({TENANTS} * pow({_u(1)}, 4))))) AS tenant,
    lower(concat(hex(cityHash64(n, 2)), hex(cityHash64(n, 3)))) AS id,
    ['failed_login', 'rate_breach', 'access_anomaly'][1 + n % 3] AS found_by,
    ['password_spray', 'burst', 'first_seen', 'brute_force', 'flood', 'denied_burst'][1 + n % 6] AS what,
    ['low', 'medium', 'high', 'critical'][1 + toUInt8(floor(4 * pow({_u(4)}, 2)))] AS how_bad,
    multiIf(revision_n = 1, 'open', revision_n = 4 AND n % 30 != 0, 'resolved', 'updated') AS state,
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC') + toIntervalMillisecond(
        toInt64({_u(5)} * {{span_ms:Int64}} * 0.999)) AS began
SELECT
    tenant, id, revision_n, state, found_by, what, how_bad, 'user_id',
    concat('user-', toString(cityHash64(n, 6) % {USERS})), began,
    began + toIntervalMinute(revision_n * 3), began + toIntervalMinute(1),
    began + toIntervalMinute(revision_n * 3) + toIntervalSecond(1), pow(2, revision_n), 3 + revision_n, 3,
    concat('user-', toString(n), ' failed 17 sign-ins from 5 addresses in 4 minutes'),
    concat('{{"alert_id":"', id, '","tenant_id":"', tenant, '","revision":', toString(revision_n),
        ',"evidence":"', arrayStringConcat(arrayMap(k -> hex(cityHash64(n, k)), range(40)), ','), '"}}')
FROM numbers({ALERT_REVISIONS})
"""

_TENANTS: Final = f"""
INSERT INTO tenants
SELECT
    concat('tenant-', toString(number % {TENANTS})), number, 0,
    concat('org-', toString(intDiv(number % {TENANTS}, 3))), concat('Name ', toString(number % {TENANTS})),
    multiIf(number % 10 = 0, 'enterprise', number % 10 < 5, 'standard', 'free'), 'active', 'eu',
    concat('{{"tenant_id":"tenant-', toString(number % {TENANTS}),
        '","organization_id":"org","name":"Name","rate_limit":',
        if(number % 20 = 0, '{{"requests":300,"window_s":1800}}', 'null'), '}}'),
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC')
FROM numbers({2 * TENANTS})
"""

_DEAD_LETTERS: Final = f"""
INSERT INTO dead_letters
WITH toInt64(number) AS n
SELECT
    concat('tenant-', toString(toUInt32(floor({TENANTS} * pow({_u(1)}, 4))))),
    ['auth', 'access', 'request'][1 + n % 3], ['invalid_event', 'invalid_json', 'unknown_tenant'][1 + n % 3],
    concat('time: "', toString(n), '" is no RFC 3339 time; fix: add the zone'), [], 700,
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC') + toIntervalMillisecond(
        intDiv(n * {{span_ms:Int64}}, {DEAD_LETTERS})),
    'cluster', concat('id-', ['auth', 'access', 'request'][1 + n % 3]),
    concat('audit.', ['auth', 'access', 'request'][1 + n % 3]), n % {PARTITIONS}, n
FROM numbers({DEAD_LETTERS})
"""

_LEDGER: Final = f"""
INSERT INTO ledger
(
    kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, first_offset, last_offset, records,
    stored, rejected, skipped, evaluated, alerts, unknown_fields, worker_id, handled_at, term
)
WITH toInt64(number) AS n, ['auth', 'access', 'request'][1 + intDiv(n, {PARTITIONS}) % 3] AS chosen
SELECT
    'cluster', concat('id-', chosen), concat('audit.', chosen), n % {PARTITIONS},
    intDiv(n, 36) * 50, intDiv(n, 36) * 50 + 49, 50, 50, n % 20 = 0, 0, 49, n % 10 = 0, n % 30 = 0,
    concat('worker-', toString(n % 3)),
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC') + toIntervalMillisecond(
        intDiv(n * {{span_ms:Int64}}, {LEDGER_ROWS})),
    1
FROM numbers({LEDGER_ROWS})
"""

_OWNERSHIP: Final = f"""
INSERT INTO ownership
WITH ['auth', 'access', 'request'][1 + intDiv(number, {PARTITIONS})] AS chosen
SELECT
    'cluster', concat('id-', chosen), concat('audit.', chosen), number % {PARTITIONS}, 1, 1, 0, 'worker-0',
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC')
FROM numbers({3 * PARTITIONS})
"""

_ENDPOINTS: Final = """
INSERT INTO webhook_endpoints
SELECT
    concat('ep_', toString(number)), if(number = 0, '', concat('tenant-', toString(number * 5))),
    'https://example.com/hook', '', 'low', 'whsec', '', toDateTime64(0, 3, 'UTC'), 'enabled', '',
    toDateTime64({start:DateTime64(3)}, 3, 'UTC'), 1
FROM numbers(500)
"""

_DELIVERIES: Final = f"""
INSERT INTO webhook_deliveries
WITH toInt64(intDiv(number, 2)) AS n, number % 2 AS final
SELECT
    concat('msg_', lower(hex(cityHash64(n, 1)))), concat('ep_', toString(cityHash64(n, 2) % 500)),
    if(cityHash64(n, 2) % 500 = 0, '', concat('tenant-', toString(cityHash64(n, 2) % 500 * 5))),
    lower(hex(cityHash64(n, 3))), 1, 'alert.opened', n % {PARTITIONS}, repeat('b', 1500),
    multiIf(final = 0, 'pending', n % 100 = 0, 'failed', n % 1000 = 1, 'pending', 'delivered'), '', final,
    created_at, toDateTime64({{start:DateTime64(3)}}, 3, 'UTC') + toIntervalMillisecond(
        intDiv(n * {{span_ms:Int64}}, {DELIVERIES})) AS created_at, final
FROM numbers({2 * DELIVERIES})
"""

_ATTEMPTS: Final = """
INSERT INTO webhook_attempts
SELECT delivery_id, endpoint_id, tenant_id, 1, created_at, 80, if(status = 'failed', 503, 200), ''
FROM webhook_deliveries FINAL
"""

_RETENTION: Final = f"""
INSERT INTO retention_runs (run_at, tenant_id, kind, retention_days, cutoff, rows_removed)
WITH toInt64(number) AS n
SELECT
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC') + toIntervalDay(n % {DAYS}),
    concat('tenant-', toString(n % {TENANTS})), ['auth', 'access', 'request'][1 + n % 3], 365,
    toDateTime64({{start:DateTime64(3)}}, 3, 'UTC'), n
FROM numbers(20000)
"""


def fill(database: Database, rows: int) -> Iterator[int]:
    """Fill every table of a migrated store; the last event arrived just now. Yields the events so far."""
    start = datetime.now(UTC) - timedelta(days=DAYS)
    bound: dict[str, Any] = {"start": start, "span_ms": DAYS * 86_400_000}
    for sql in (_TENANTS, _ALERTS, _DEAD_LETTERS, _LEDGER, _OWNERSHIP, _ENDPOINTS, _DELIVERIES, _RETENTION):
        database.command(sql, bound)
    database.command(_ATTEMPTS)
    sessions = max(1, rows * SESSION_MS // bound["span_ms"] // SESSION_EVENTS)
    bound |= {"start_ms": int(start.timestamp() * 1000), "rows": rows, "sessions": sessions}
    for first in range(0, rows, BLOCK_ROWS):
        count = min(BLOCK_ROWS, rows - first)
        database.command(_EVENTS, {**bound, "first": first, "count": count})
        yield first + count
