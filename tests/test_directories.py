"""A Kafka that was wiped beside a kept store: what its new directory tells holds from then on."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.tenant import Tenant
from schemas.tuning import TUNING_KEY, Tuning
from store.database import Database
from store.directories import OFFSETS, first_version
from store.queries import Reader, TenantContext
from streams.directory import Directory, Entry
from streams.faust_app import StreamConfig, create_app
from streams.tenant_rows import tenant_row


@pytest.fixture(autouse=True)
def no_topic_was_met(database: Database) -> None:
    database.command("TRUNCATE TABLE directories")


async def told(folder: Path, first: int, key: str, value: bytes, offset: int) -> list[int]:
    """Return the versions of which a directory tells, whose topic begins with a version."""
    versions: list[int] = []

    async def on_tenant(tenant_id: str, entry: Entry | None, version: int) -> None:
        versions.append(version)
        assert entry is None or entry.version == version

    async def on_tuning(tuning: Tuning, version: int) -> None:
        versions.append(version)

    app = create_app(StreamConfig("127.0.0.1:1", folder, "test"))
    directory = Directory(app, 1, on_tenant, on_tuning)
    directory.first_version = first
    record = SimpleNamespace(key=key.encode(), value=value, partition=0, offset=offset)
    await directory._on_change(SimpleNamespace(message=record))
    return versions


def test_a_topic_keeps_its_versions_over_restarts(database: Database) -> None:
    """The first one's are its offsets, as they always were."""
    assert [first_version(database, "cluster", "topic") for _ in range(3)] == [0, 0, 0]


def test_a_new_topic_goes_on_after_every_one_before_it(database: Database) -> None:
    """A new cluster, or a topic that was made anew; the old ones keep their own."""
    topics = [("cluster", "topic"), ("cluster", "made anew"), ("new cluster", "topic")]
    firsts = [first_version(database, *topic) for topic in topics]
    assert firsts == [0, OFFSETS, 2 * OFFSETS]
    assert [first_version(database, *topic) for topic in topics] == firsts


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tenant-a", Tenant(tenant_id="tenant-a", organization_id="o", name="n")),
        (TUNING_KEY, Tuning()),
    ],
)
async def test_versions_count_from_where_the_topic_begins(tmp_path: Path, key: str, value: Any) -> None:
    """Tenants' settings and the operator's overrides alike."""
    assert await told(tmp_path, OFFSETS, key, value.model_dump_json().encode(), 7) == [OFFSETS + 7]


def test_settings_of_a_new_topic_hold_over_those_of_the_old_one(database: Database) -> None:
    """Although the old one had come to a higher offset."""
    for cluster, offset, name in (("old", 900, "before"), ("new", 3, "after")):
        version = first_version(database, cluster, "topic") + offset
        tenant = Tenant(tenant_id="wiped", organization_id="o", name=name)
        row = tenant_row("wiped", Entry(tenant, version), version)
        database.insert_rows("tenants", [{**row, "applied_at": datetime.now(UTC)}])
    [found] = Reader(database, TenantContext("wiped")).tenants()
    assert (found["name"], found["version"]) == ("after", OFFSETS + 3)
