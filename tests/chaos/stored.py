"""What a store holds after a run, read in a process of its own: the engine admits one path in each.

Run as ``python -m tests.chaos.stored WHERE``: a data directory of the engine, or a server's URL. Prints JSON.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from store.database import Database
from tests.chaos.stage import REPOSITORY

Identity = tuple[str, int, int, int]  # topic, partition, offset, index
# What may differ between two runs over the same messages: when and by whom a row was stored, and which
# version of a tenant's settings the worker knew by then (they differ in what no detector looks at).
VARYING: Final = frozenset({"ingest_time", "tenant_version"})


@dataclass
class Stored:
    """What a store holds.

    Parameters
    ----------
    rows
        Identity to how often it is there, the event's id, and hashes of its contents.
    alerts
        (alert id, revision) to its content.
    dead_letters
        (topic, partition, offset) to reason, detail and positions.
    """

    rows: dict[Identity, tuple[int, str, list[str]]] = field(default_factory=dict)
    alerts: dict[tuple[str, int], str] = field(default_factory=dict)
    dead_letters: dict[tuple[str, int, int], str] = field(default_factory=dict)


def read(where: str) -> Stored:
    """Read a store, given as to this module's command."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.stored", where],
        stdout=subprocess.PIPE,
        check=True,
        cwd=REPOSITORY,
    )
    raw = json.loads(done.stdout)
    return Stored(
        {(t, p, o, i): (n, event_id, hashes) for t, p, o, i, n, event_id, hashes in raw["rows"]},
        {(alert_id, revision): body for alert_id, revision, body in raw["alerts"]},
        {(t, p, o): what for t, p, o, what in raw["dead_letters"]},
    )


def alert_content(body: str | bytes) -> str:
    """Return what two runs must agree on in a revision: all but when it was published."""
    content = json.loads(body)
    del content["published_at"]
    return json.dumps(content, sort_keys=True)


def _dump(database: Database) -> dict[str, list[list[Any]]]:
    described = database.query(
        "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'events'"
    )
    names = [row["name"] for row in described]
    content = [n for n in names if n not in VARYING and not n.startswith("kafka_") and n != "message_index"]
    rows = database.query(
        "SELECT kafka_topic AS t, kafka_partition AS p, kafka_offset AS o, message_index AS i, count() AS n, "
        "any(event_id) AS e, "
        f"groupUniqArray(toString(cityHash64(toString(tuple({', '.join(content)}))))) AS h "
        "FROM events GROUP BY t, p, o, i ORDER BY t, p, o, i"
    )
    alerts = database.query("SELECT alert_id, revision, body FROM alerts FINAL ORDER BY alert_id, revision")
    letters = database.query(
        "SELECT kafka_topic AS t, kafka_partition AS p, kafka_offset AS o, "
        "toString((tenant_id, kind, reason, detail, rejected_indexes, value_bytes)) AS what "
        "FROM dead_letters FINAL ORDER BY t, p, o"
    )
    return {
        "rows": [[r["t"], r["p"], r["o"], r["i"], r["n"], r["e"], list(r["h"])] for r in rows],
        "alerts": [[r["alert_id"], r["revision"], alert_content(r["body"])] for r in alerts],
        "dead_letters": [list(r.values()) for r in letters],
    }


def main() -> None:
    """Print a store's content."""
    where = sys.argv[1]
    database = Database.server(where) if "://" in where else Database.embedded(Path(where) / "clickhouse")
    json.dump(_dump(database), sys.stdout)


if __name__ == "__main__":
    main()
