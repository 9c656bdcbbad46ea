"""What `tenantwatch doctor` makes of what it sees: each check one line, with its fix. No I/O."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from streams.inspection import ClusterView

PREFIX: Final = "TENANTWATCH_"
GIB: Final = 2**30
# Kafka keeps a week and ClickHouse needs room to merge; a full disk stops both.
FREE_WARN_BYTES: Final = 5 * GIB
FREE_FAIL_BYTES: Final = GIB
# A few seconds of full load; more means that the workers do not keep up, or do not run.
LAG_WARN_MESSAGES: Final = 10_000
# The contract's limits are 15 and 5 minutes, so a share of a percent is clocks, not stragglers.
OUT_OF_TIME_WARN_SHARE: Final = 0.01
# Rows are sealed within a minute, and a store that was away is caught up with.
UNSEALED_WARN_S: Final = 300.0
CLOCK_WARN_S: Final = 2.0
CLOCK_FAIL_S: Final = 60.0
LETTER_FIXES: Final = {
    "unknown_tenant": "add the tenants: `tenantwatch tenants apply FILE`",
    "tenant_mismatch": "set each message's key to its events' tenant_id",
    "invalid_event": "check the producer's events: `tenantwatch validate FILE`",
    "invalid_json": "check the producer's events: `tenantwatch validate FILE`",
}


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do about it.

    Parameters
    ----------
    status
        ``fail``: events are lost to view or nothing works. ``warn``: look at it.
    fix
        Empty when there is nothing to do.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def check_python(version: Sequence[int]) -> Check:
    """Faust and the pinned engine are built for one version."""
    found = ".".join(map(str, version[:3]))
    if tuple(version[:2]) == (3, 11):
        return Check("python", "ok", found)
    return Check(
        "python", "fail", f"{found}, tenantwatch needs 3.11", "make a virtual environment of Python 3.11"
    )


def check_variables(environ: Mapping[str, str]) -> Check:
    """A misspelt variable is ignored in silence otherwise."""
    known = [f"{PREFIX}{name}".upper() for name in Settings.model_fields]
    given = sorted(name for name in environ if name.upper().startswith(PREFIX))
    if unknown := [name for name in given if name.upper() not in known]:
        near = {name: get_close_matches(name.upper(), known, 1) for name in unknown}
        hints = [
            f"{name}: did you mean {close[0]}?" if close else f"{name}: remove it"
            for name, close in near.items()
        ]
        return Check("settings", "warn", f"no such setting: {', '.join(unknown)}", "; ".join(hints))
    return Check("settings", "ok", ", ".join(given) if given else "all defaults")


def check_data_dir(data_dir: str, writable: bool, free_bytes: int) -> Check:
    """Kafka's and ClickHouse's data, and the socket."""
    free = f"{free_bytes / GIB:.1f} GiB free"
    if not writable:
        return Check(
            "data directory",
            "fail",
            f"{data_dir} cannot be written",
            "give this user the right to, or name another with TENANTWATCH_DATA_DIR",
        )
    if free_bytes < FREE_WARN_BYTES:
        status: Literal["warn", "fail"] = "fail" if free_bytes < FREE_FAIL_BYTES else "warn"
        return Check(
            "data directory", status, f"{data_dir}, only {free}", "make room, or shorten retention_days"
        )
    return Check("data directory", "ok", f"{data_dir}, {free}")


def check_master_key(source: str, problem: str, shared: bool) -> Check:
    """What the vault's keys are wrapped by: lost, nobody can be told from a pseudonym again.

    Parameters
    ----------
    source
        Where it comes from, in words.
    problem
        Why it cannot be used; empty where it can.
    shared
        Whether several workers may use the store, and the key is a file that this one made.
    """
    if problem:
        return Check("master key", "fail", problem, "docs/privacy.md, Keys")
    if shared:
        fix = "give every worker the same TENANTWATCH_MASTER_KEY or TENANTWATCH_MASTER_KEY_FILE"
        return Check("master key", "warn", f"{source}, on this host only", fix)
    return Check("master key", "ok", f"{source}; keep a copy apart from the store's backups")


def check_api_keys(path: str, mode: int | None) -> Check:
    """The API's own keys: whoever reads them can sign access tokens."""
    if mode is None:
        return Check("api keys", "ok", f"{path} is made at the first start")
    if stat.S_IMODE(mode) & 0o077:
        fix = f"chmod 600 {path}, then `tenantwatch keys rotate-signing`: somebody may have read it"
        return Check("api keys", "fail", f"others may read {path}", fix)
    return Check("api keys", "ok", f"{path}, for its owner only")


def check_worker(status: Mapping[str, Any] | None) -> Check:
    """The worker with this data directory."""
    if status is None:
        return Check("worker", "warn", "none runs with this data directory", "start it: `tenantwatch up`")
    if status["problems"]:
        fix = "it may be starting: look again in a moment, then at its log"
        return Check("worker", "fail", f"{status['worker_id']}: {'; '.join(status['problems'])}", fix)
    return Check("worker", "ok", f"{status['worker_id']}, version {status['version']}, ready")


def check_api_process(problems: Sequence[str]) -> Check:
    """A `tenantwatch api`, where it runs instead of a worker."""
    if problems:
        return Check("api", "fail", "; ".join(problems), "look at its log")
    return Check(
        "api", "ok", "an API process answers here, ready; workers have data directories of their own"
    )


def check_ports(taken: Mapping[str, int]) -> Check:
    """Only where no worker runs: what `up` would listen on."""
    if taken:
        listed = ", ".join(str(port) for port in taken.values())
        fix = f"stop what listens there, or set {' and '.join(taken)} to other ports (0 takes a free one)"
        return Check("ports", "fail", f"in use by another program: {listed}", fix)
    return Check("ports", "ok", "free")


def check_jars(known: bool) -> Check:
    """The embedded Kafka's jars, which the first start fetches."""
    if known:
        return Check("kafka jars", "ok", "on this machine")
    return Check("kafka jars", "warn", "not here yet, 45 MB", "the first `tenantwatch up` needs the network")


def check_cluster(view: "ClusterView") -> Iterator[Check]:
    """The topics, and how far the workers are behind."""
    yield _check_topics(view)
    waiting = {topic: messages for topic, messages in view.lag.items() if messages}
    listed = ", ".join(f"{topic} {messages:,}" for topic, messages in waiting.items())
    if sum(waiting.values()) >= LAG_WARN_MESSAGES:
        fix = "if it grows, start more workers (`tenantwatch worker`), at most one for each partition"
        yield Check("consumer lag", "warn", f"messages waiting: {listed}", fix)
    else:
        yield Check("consumer lag", "ok", f"messages waiting: {listed or 'none'}")


def _check_topics(view: "ClusterView") -> Check:
    from streams.topics import TOPIC_OF

    if view.missing:
        fix = "start `tenantwatch up` or `worker`, which creates them"
        return Check("topics", "fail", f"missing: {', '.join(view.missing)}", fix)
    counts = {topic: view.partitions[topic] for topic in TOPIC_OF.values()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
        fix = "raise the smaller counts (kafka-topics.sh --alter --partitions), or recreate the topics"
        return Check("topics", "fail", f"unequal partition counts: {listed}", fix)
    if view.too_small:
        listed = ", ".join(
            f"{topic} takes {view.max_message_bytes[topic]:,} bytes" for topic in view.too_small
        )
        wanted = ", ".join(f"{topic} to {size:,}" for topic, size in view.too_small.items())
        fix = f"raise max.message.bytes (kafka-configs.sh --alter): {wanted}"
        return Check("topics", "warn", listed, fix)
    if view.in_one_place:
        found = f"what is acknowledged may be on one broker alone: {', '.join(view.in_one_place)}"
        fix = "set min.insync.replicas=2 on them (kafka-configs.sh --alter --add-config)"
        return Check("topics", "warn", found, fix)
    if view.unreadable:
        found = f"settings could not be read: {', '.join(view.unreadable)}"
        fix = "allow our user to (kafka-acls.sh --add --operation DescribeConfigs)"
        return Check("topics", "warn", found, fix)
    return Check("topics", "ok", f"all there, {next(iter(counts.values()))} partitions each")


def check_store(health: Mapping[str, Any], server: bool) -> Iterator[Check]:
    """What the store says of itself and of the last day."""
    if pending := health["pending_migrations"]:
        fix = "restart the worker with this version, which applies them"
        yield Check("store", "fail", f"migrations not applied: {', '.join(pending)}", fix)
    else:
        yield Check("store", "ok", "answers, every migration is applied")
    if server:
        yield check_clock(*map(datetime.fromisoformat, (health["now"], health["asked_at"])))
        yield check_reader(health["reader_is_open"])
        yield check_version(health["version"])
    if health["tenants"]:
        yield Check("tenants", "ok", f"{health['tenants']:,} in the directory")
    else:
        fix = "`tenantwatch tenants apply FILE`; `tenantwatch tenants template` shows one"
        yield Check("tenants", "warn", "none in the directory: every event is a dead letter", fix)
    yield check_placement(health["misplaced_by"])
    yield check_letters(health["dead_letters"])
    yield check_event_time(health)
    yield check_webhooks(health["webhooks"])
    yield check_seals(health["seals"])


def check_reader(is_open: bool | None) -> Check:
    """A reader without row policies would be no wall, and nobody would notice."""
    setting = "TENANTWATCH_CLICKHOUSE_READER"
    if is_open is None:
        fix = f"set {setting} (deploy/README.md), so that the server is a second wall"
        return Check("reader", "warn", "queries for a tenant go as the writer, who sees every tenant", fix)
    if is_open:
        fix = f"let {setting} name the user of deploy/clickhouse/users.d/reader.xml"
        return Check("reader", "fail", "it shows rows to who names no tenant: it has no row policies", fix)
    return Check("reader", "ok", "shows a tenant's rows to that tenant's queries only")


def check_version(version: str) -> Check:
    """Row policies hide rows; older servers show their keys all the same, to readers and viewers."""
    from store.server_version import hides_keys

    if hides_keys(version):
        return Check("clickhouse", "ok", f"{version}, row policies hide keys too")
    found = f"{version} shows keys of every tenant's rows to each reader and viewer (mergeTreeIndex)"
    return Check("clickhouse", "warn", found, "upgrade it: deploy/README.md names the versions")


def check_clock(there: datetime, here: datetime) -> Check:
    """The worker stamps with its own clock, and ClickHouse expires by its own."""
    off_s = (there - here).total_seconds()
    found = f"ClickHouse's is {abs(off_s):.1f} s {'ahead' if off_s > 0 else 'behind'}"
    if abs(off_s) < CLOCK_WARN_S:
        return Check("clock", "ok", found)
    return Check(
        "clock", "fail" if abs(off_s) >= CLOCK_FAIL_S else "warn", found, "synchronise both machines with NTP"
    )


def check_placement(misplaced: Sequence[Mapping[str, Any]]) -> Check:
    """Events in the wrong partition are stored, but no detector sees them."""
    if not misplaced:
        return Check("partitioning", "ok", "no event in the wrong partition in a day")
    listed = ", ".join(
        f"{row['service']} of {row['tenant_id']} ({row['events']:,} events)" for row in misplaced
    )
    return Check(
        "partitioning",
        "fail",
        f"in the wrong partition, unseen by detectors: {listed}",
        "set the producer's partitioner to murmur2 of the key; with librdkafka partitioner=murmur2_random",
    )


def check_letters(letters: Sequence[Mapping[str, Any]]) -> Check:
    """Messages of the last day that could not be stored."""
    if not letters:
        return Check("dead letters", "ok", "none in a day")
    listed = ", ".join(f"{row['messages']:,} {row['reason']}" for row in letters)
    known = [LETTER_FIXES[row["reason"]] for row in letters if row["reason"] in LETTER_FIXES]
    fixes = [*dict.fromkeys(known)] or ["the topic audit.dead-letters has each with its reason and detail"]
    return Check(
        "dead letters", "warn", f"in a day: {listed}; e.g. {letters[0]['example']:.200}", "; ".join(fixes)
    )


def check_event_time(health: Mapping[str, Any]) -> Check:
    """Events that came too late to be looked at, or from the future."""
    events, late, future = health["events"], health["late"], health["future"]
    found = f"of {events:,} events in a day {late:,} came late, {future:,} from the future"
    if events and max(late, future) / events > OUT_OF_TIME_WARN_SHARE:
        fix = "late: send sooner, in order of time; future: synchronise the producers' clocks with NTP"
        return Check("event time", "warn", found, fix)
    return Check("event time", "ok", found)


def check_webhooks(webhooks: Mapping[str, Any]) -> Check:
    """Whether alerts get where they should."""
    found = f"{webhooks['endpoints']:,} endpoints, {webhooks['pending']:,} deliveries waiting"
    problems, fixes = [], []
    for endpoint in webhooks["disabled"]:
        problems.append(f"{endpoint['endpoint_id']} is disabled ({endpoint['status_reason'] or 'no reason'})")
        fixes.append(f"`tenantwatch webhooks enable {endpoint['endpoint_id']}`")
    if webhooks["overdue"]:
        problems.append(f"{webhooks['overdue']:,} wait for over an hour")
    if webhooks["failed"]:
        problems.append(f"{webhooks['failed']:,} given up in a day")
    if webhooks["overdue"] or webhooks["failed"]:
        fixes.append("`tenantwatch webhooks deliveries` says why; `webhooks redeliver` sends one again")
    if problems:
        return Check("webhooks", "warn", f"{found}; {'; '.join(problems)}", "; ".join(fixes))
    return Check("webhooks", "ok", found)


def check_seals(seals: Mapping[str, Any]) -> Check:
    """Rows that are not sealed can be changed without anybody's seeing it."""
    if unknown := seals["unknown_key_ids"]:
        found = f"seals of the last day are signed by keys that are not known here: {', '.join(unknown)}"
        fix = "give all workers one TENANTWATCH_SEAL_KEY, and state it first: `tenantwatch seals introduce`"
        return Check("seals", "warn", found, fix)
    if not seals["unsealed"]:
        return Check("seals", "ok", f"every row of the last day is sealed, {seals['seals']:,} seals")
    found = f"{seals['unsealed']:,} rows are not sealed, the oldest for {seals['unsealed_age_s']:,.0f} s"
    if seals["unsealed_age_s"] > UNSEALED_WARN_S:
        fix = "a worker seals every minute: start one, or look for sealing_postponed in its log"
        return Check("seals", "warn", found, fix)
    return Check("seals", "ok", found)
