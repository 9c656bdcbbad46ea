"""What the tests share: one ClickHouse engine, because chdb admits one path a process."""

from collections.abc import Iterator

import pytest

from store.database import Database
from store.migrations import migrate


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The embedded engine with every table, for the whole session: tests keep apart by tenant."""
    opened = Database.embedded(tmp_path_factory.mktemp("store") / "clickhouse")
    migrate(opened)
    yield opened
    opened.close()
