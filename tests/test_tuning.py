"""The operator's overrides: they reach every tenant's rules at once, and recovery knows which held when."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from detectors.failed_login import FailedLogin
from detectors.parameters import DEFAULTS, TIERS, FailedLoginParameters, resolve
from detectors.tuning import settings_of, tuned
from schemas.tenant import Tenant, unknown_tenant
from schemas.tuning import NO_VERSION, TUNING_KEY, Tuning
from store.database import Database
from store.events import KafkaIds
from store.tail import Tail
from streams.directory import Directory, Entry
from streams.faust_app import StreamConfig, create_app
from streams.tenant_rows import tenant_row, tuning_row
from tests.scenarios.streams import START_MS, batch_of

NOW = datetime(2026, 1, 5, tzinfo=UTC)


class Topic:
    """Stands in for ``audit.tenants``: hands records to a directory, as Faust does."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._offset = 0

    async def send(self, key: str, value: Any) -> int:
        """Return the record's offset."""
        text = value if isinstance(value, bytes | None) else value.model_dump_json().encode()
        record = SimpleNamespace(key=key.encode(), value=text, partition=0, offset=self._offset)
        await self._directory._on_change(SimpleNamespace(message=record))
        self._offset += 1
        return self._offset - 1


class Listening:
    """A directory, and what it told those who store it."""

    def __init__(self, directory: Path) -> None:
        self.tenants: list[tuple[str, Entry | None, int]] = []
        self.tunings: list[tuple[Tuning, int]] = []
        app = create_app(StreamConfig("127.0.0.1:1", directory, "test"))
        self.directory = Directory(app, 1, self._on_tenant, self._on_tuning)
        self.topic = Topic(self.directory)

    async def _on_tenant(self, tenant_id: str, entry: Entry | None, version: int) -> None:
        self.tenants.append((tenant_id, entry, version))

    async def _on_tuning(self, tuning: Tuning, version: int) -> None:
        self.tunings.append((tuning, version))

    def burst_failures(self, tenant_id: str = "tenant-a") -> int:
        """Return one parameter, as a detector works it out for a batch of the tenant."""
        batch = batch_of("auth", [{"tenant_id": tenant_id, "time_ms": START_MS}])
        enriched, unknown = self.directory.enrich(batch, START_MS)
        assert not unknown
        return resolve("failed_login", FailedLoginParameters(), enriched.tenants[0]).burst_failures


@pytest.fixture
def listening(tmp_path: Path) -> Listening:
    return Listening(tmp_path)


def bursts(failures: int) -> dict[str, dict[str, float | int | bool]]:
    return {"failed_login": {"burst_failures": failures}}


def tenant(tenant_id: str = "tenant-a", **fields: Any) -> Tenant:
    return unknown_tenant(tenant_id).model_copy(update=fields)


async def test_each_layer_wins_over_those_below_it(listening: Listening) -> None:
    """Default, global, tier, tenant: each is set and taken back, and holds for the next batch."""
    default = FailedLoginParameters().burst_failures
    send = listening.topic.send
    await send("tenant-a", tenant(tier="standard"))
    assert listening.burst_failures() == default
    await send(TUNING_KEY, Tuning(detectors=bursts(11)))
    assert listening.burst_failures() == 11
    await send(TUNING_KEY, Tuning(detectors=bursts(11), tiers={"standard": bursts(12), "free": bursts(9)}))
    assert listening.burst_failures() == 12
    await send("tenant-a", tenant(tier="standard", detectors=bursts(13)))
    assert listening.burst_failures() == 13
    await send("tenant-a", tenant(tier="free"))
    assert listening.burst_failures() == 9
    await send(TUNING_KEY, None)
    assert listening.burst_failures() == default


async def test_detectors_go_by_new_overrides_from_the_next_batch_on(listening: Listening) -> None:
    """What a detector worked out for a tenant is worked out anew: it goes by the object."""
    detector = FailedLogin()
    state = detector.new_state()
    await listening.topic.send("tenant-a", tenant(detectors={"failed_login": {"strict_failures": 0}}))
    raised = []
    for start, tuning in enumerate((None, Tuning(detectors=bursts(1)))):
        await listening.topic.send(TUNING_KEY, tuning)
        events = [
            {
                "event_id": f"{start}-{i}", "time_ms": START_MS + 3_600_000 * start + 1_000 * i,
                "user_id": "ana", "source_ip": "192.0.2.7", "action": "login", "outcome": "failure",
            }
            for i in range(3)
        ]  # fmt: skip
        batch, _ = listening.directory.enrich(batch_of("auth", events), START_MS)
        raised.append(bool(detector.fold(batch, state)))
    assert raised == [False, True]


async def test_a_tenant_that_comes_later_is_tuned_too(listening: Listening) -> None:
    """The topics' partitions are read in any order."""
    await listening.topic.send(TUNING_KEY, Tuning(tiers={"enterprise": bursts(12)}))
    await listening.topic.send("tenant-a", tenant(tier="enterprise"))
    assert listening.burst_failures() == 12


async def test_the_store_is_told_what_was_told(listening: Listening) -> None:
    """A tenant's row has its own overrides only; the operator's have rows of their own."""
    await listening.topic.send(TUNING_KEY, Tuning(detectors=bursts(11)))
    await listening.topic.send("tenant-a", tenant())
    await listening.topic.send(TUNING_KEY, None)
    [(_, entry, version)] = listening.tenants
    assert (entry, version) == (Entry(tenant(), 1), 1)
    assert listening.tunings == [(Tuning(detectors=bursts(11)), 0), (Tuning(), 2)]
    assert listening.directory.holds("tenant-a")
    assert not listening.directory.holds(TUNING_KEY)


async def test_events_carry_the_version_that_they_were_enriched_with(listening: Listening) -> None:
    """It is the record's offset; -1 before there was one."""
    await listening.topic.send("tenant-a", tenant())
    versions = []
    for record in (Tuning(detectors=bursts(11)), None):
        batch = batch_of("auth", [{"time_ms": START_MS}])
        versions.append(listening.directory.enrich(batch, START_MS)[0].tuning_version)
        await listening.topic.send(TUNING_KEY, record)
    assert versions == [NO_VERSION, 1]


@pytest.mark.parametrize("value", [b"no json", b'{"detector": {}}', b'{"tiers": {"gold": {}}}'])
async def test_a_record_that_cannot_be_read_changes_nothing(listening: Listening, value: bytes) -> None:
    """It may be a newer program's; what held before goes on to hold, and it is logged with its place."""
    await listening.topic.send("tenant-a", tenant())
    await listening.topic.send(TUNING_KEY, Tuning(detectors=bursts(11)))
    with capture_logs() as logs:
        await listening.topic.send(TUNING_KEY, value)
    assert (listening.burst_failures(), listening.directory.tuning_version) == (11, 1)
    [entry] = [entry for entry in logs if entry["event"] == "tenant_rejected"]
    assert (entry["tenant_id"], entry["offset"]) == (TUNING_KEY, 2)


async def test_a_value_that_cannot_hold_lets_the_layer_below_hold(listening: Listening) -> None:
    """A parameter out of range is passed over and named; the others of the record hold."""
    await listening.topic.send("tenant-a", tenant(detectors=bursts(-1)))
    overrides: Any = {"failed_login": {"burst_failures": 11, "no_such": 1}}
    with capture_logs() as logs:
        await listening.topic.send(TUNING_KEY, Tuning(detectors=overrides))
    assert listening.burst_failures() == 11
    [entry] = [entry for entry in logs if entry["event"] == "tenant_override_ignored"]
    assert entry["detail"].startswith("detectors.failed_login.no_such: no such parameter")


def test_nobody_but_the_tenants_of_a_tier_sees_its_overrides() -> None:
    """A tenant for whom nothing is set keeps its object: detectors need not work out anything anew."""
    one = tenant(tier="free")
    assert tuned(one, Tuning(tiers={"enterprise": bursts(12)})) is one


def test_every_parameter_says_who_set_it() -> None:
    """The name of the last layer that says something of it, and its value, are shown."""
    [built_in] = [v for v in TIERS["enterprise"]["failed_login"].items() if v[0] == "new_users"]
    tuning = Tuning(
        detectors={"failed_login": {"quiet_s": 600, "burst_failures": 6}},
        tiers={"enterprise": {"failed_login": {"burst_failures": 7}, "rate_breach": {"high_ratio": 9}}},
    )
    own = tenant(tier="enterprise", detectors={"rate_breach": {"high_ratio": 3}})
    found = {(s.detector, s.parameter): (s.value, s.source) for s in settings_of(own, tuning)}
    assert found["failed_login", "new_users"] == (built_in[1], "built-in tier")
    assert found["failed_login", "quiet_s"] == (600, "global")
    assert found["failed_login", "burst_failures"] == (7, "tier")
    assert found["rate_breach", "high_ratio"] == (3, "tenant")
    assert found["rate_breach", "medium_ratio"][1] == "default"


def test_what_is_shown_is_what_detectors_resolve() -> None:
    """For every section and parameter there is, whatever is set where."""
    tuning = Tuning(
        detectors={"failed_login": {"new_users": 5}, "budget": {"false_alarms_per_week": 3}},
        tiers={"enterprise": {"failed_login": {"hour_failures": 50}}},
    )
    own = tenant(tier="enterprise", detectors={"access_anomaly": {"quiet_s": 90}})
    for setting in settings_of(own, tuning):
        resolved = resolve(setting.detector, DEFAULTS[setting.detector], tuned(own, tuning))
        assert getattr(resolved, setting.parameter) == setting.value
        assert setting.low <= setting.value <= setting.high
        assert setting.why


@pytest.fixture
def ids(database: Database) -> Iterator[KafkaIds]:
    """A topic whose rows were enriched with two versions of the overrides, and one that is not stored."""
    ids = KafkaIds(f"cluster-{uuid4().hex[:8]}", {"audit.auth": uuid4().hex})
    versions = [NO_VERSION, 41, 41, 42, 999_999]
    database.insert_rows(
        "events",
        [
            {
                "tenant_id": "tuned-a", "kind": "auth", "time": NOW, "event_id": f"e{i}", "ingest_time": NOW,
                "tenant_version": 7, "tuning_version": version, "kafka_offset": i,
                **ids.columns("audit.auth"),
            }
            for i, version in enumerate(versions)
        ],
    )  # fmt: skip
    own = tenant("tuned-a", detectors={"failed_login": {"quiet_s": 99}})
    database.insert_rows("tenants", [tenant_row("tuned-a", Entry(own, 7), 7)])
    database.insert_rows("tuning", [tuning_row(Tuning(detectors=bursts(n)), n) for n in (41, 42)])
    yield ids
    for table in ("events", "tenants"):
        database.command(f"DELETE FROM {table} WHERE tenant_id = 'tuned-a'")
    database.command("TRUNCATE TABLE tuning")


def test_recovery_folds_rows_with_the_overrides_of_their_time(database: Database, ids: KafkaIds) -> None:
    """A batch has one version of them; of one that is nowhere stored those of now take the place."""
    now = Tuning(detectors=bursts(77))
    tail = Tail(database, ids, lambda _: None, now)
    batches = list(tail.batches("auth", "audit.auth", 0, 0, 10))
    assert [batch.columns["event_id"] for batch in batches] == [["e0"], ["e1", "e2"], ["e3"], ["e4"]]
    values = [batch.tenants[0].detectors["failed_login"] for batch in batches]
    assert values == [
        {"quiet_s": 99},
        {"quiet_s": 99, "burst_failures": 41},
        {"quiet_s": 99, "burst_failures": 42},
        {"quiet_s": 99, "burst_failures": 77},
    ]
    assert [batch.tuning_version for batch in batches] == [NO_VERSION, 41, 42, 999_999]
