"""Opening the store that the settings name."""

import time
from typing import Final

import structlog

from store.database import Database
from store.lock import StoreLocked
from store.migrations import migrate
from tenantwatch.settings import Settings

log = structlog.get_logger()
POLL_S: Final = 0.1


def open_database(settings: Settings, wait_s: float = 0.0) -> Database:
    """Open the store that the settings name, with its tables up to date.

    Parameters
    ----------
    wait_s
        How long to wait for another process that has it open: a command is done in a moment.

    Raises
    ------
    StoreLocked
        If it still has.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            database = _open(settings)
            break
        except StoreLocked:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
    for name in migrate(database):
        log.info("migration_applied", name=name)
    return database


def _open(settings: Settings) -> Database:
    url = settings.clickhouse_url
    if url is None:
        return Database.embedded(settings.data_dir / "clickhouse")
    return Database.server(url, settings.clickhouse_reader_url)
