"""The operator's overrides of detector parameters, as the workers' directory stored them."""

from schemas.tuning import NO_VERSION, Tuning
from store.database import Database


def read_tunings(database: Database) -> dict[int, Tuning]:
    """Return every version of the overrides that is stored, the newest last; `NO_VERSION` overrides nothing.

    They are the platform operator's and name no tenant.
    """
    # Not by version: where Kafka was set up anew, offsets began again.
    rows = database.query("SELECT version, body FROM tuning FINAL ORDER BY applied_at, version")
    stored = {int(row["version"]): Tuning.model_validate_json(row["body"]) for row in rows}
    return {NO_VERSION: Tuning(), **stored}
