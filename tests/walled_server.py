"""A ClickHouse server with the deployment's users, a viewer of one tenant, and rows of two in every table."""

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from store.database import Database
from store.migrations import migrate
from tests.clickhouse_server import DEPLOYED_USERS, ROOT, ClickHouseServer

# With a dot and an underscore, which a user's name in ClickHouse's files cannot have or must not confuse.
OWN: Final = "tenant.a_1"
OTHER: Final = "tenant-b"
PLATFORM: Final = ""
# Some of the other tenant's rows are older and some newer than all of the own: extremes would show them.
ROWS: Final = {OWN: (0, 0), OTHER: (-3, 0, 3), PLATFORM: (0,)}
# What an answer must not hold: the other tenant's name or texts, or the platform's.
LEAK: Final = re.compile(r"tenant-b|row_of\W+platform")
_REFUSED: Final = re.compile(r"Code: (\d+)\.")


@dataclass(frozen=True)
class Peer:
    """A user of the server who may read one tenant's rows.

    Parameters
    ----------
    address
        With name and password in it.
    file
        Where the user is defined.
    tenant_id
        Whose queries it sends by default; None for a user who is one tenant's whatever it asks.
    """

    address: str
    file: Path
    tenant_id: str | None

    def ask(self, sql: str, *, query_id: str | None = None, **params: str) -> httpx.Response:
        """Send a query, by default with an id as the application gives it."""
        if query_id is None and self.tenant_id is not None:
            query_id = query_id_of(self.tenant_id)
        sent = {"database": "tenantwatch", **params} | ({"query_id": query_id} if query_id else {})
        return httpx.post(self.address, params=sent, content=sql.encode(), timeout=60, trust_env=False)

    def rows(self, sql: str, **params: str) -> list[dict[str, Any]]:
        """Return the rows of a query that must be answered."""
        answer = self.ask(f"{sql} FORMAT JSONEachRow", **params)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def granted(self) -> set[str]:
        """Return the tables that its file lets it read."""
        grants = [str(query.text) for query in ET.parse(self.file).getroot().iterfind("users/*/grants/query")]
        assert all(re.fullmatch(r"GRANT SELECT ON tenantwatch\.\w+", grant) for grant in grants), grants
        return {grant.rpartition(".")[2] for grant in grants}

    def filtered(self) -> set[str]:
        """Return the tables that its file has a row policy of."""
        return {
            table.tag for table in ET.parse(self.file).getroot().iterfind("users/*/databases/tenantwatch/*")
        }


@dataclass(frozen=True)
class Walled:
    """The running server; its tables by name, with whether they have a ``tenant_id``."""

    server: ClickHouseServer
    writer: Database
    peers: dict[str, Peer]
    tables: dict[str, bool]

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has, of whatever tenant."""
        sql = " UNION ALL ".join(f"SELECT '{table}' AS t, count() AS n FROM {table}" for table in self.tables)
        return {row["t"]: row["n"] for row in self.writer.query(sql)}


def query_id_of(tenant_id: str) -> str:
    """Return an id as the application gives it to a query for a tenant."""
    return f"{tenant_id}/{uuid4().hex}"


def refusal(answer: httpx.Response) -> int | None:
    """Return the code of the error that an answer is; None for one that is none."""
    found = _REFUSED.search(answer.text)
    return int(found[1]) if found and answer.status_code != 200 else None


def make_viewer(tenant_id: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `deploy/make-viewer`."""
    command = [ROOT / "deploy/make-viewer", tenant_id, folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def walled_server(directory: Path) -> Iterator[Walled]:
    """Start the server, and fill it."""
    made = make_viewer(OWN, directory)
    assert made.returncode == 0, made.stderr
    [file] = directory.glob("viewer_*.xml")
    server = ClickHouseServer(directory / "clickhouse", users=(*DEPLOYED_USERS, file))
    writer = Database.server(server.start())
    try:
        migrate(writer)
        yield Walled(server, writer, _peers(server, file, made.stdout.strip()), _fill(writer))
    finally:
        writer.close()
        server.stop()


def _peers(server: ClickHouseServer, file: Path, password: str) -> dict[str, Peer]:
    reader = server.reader_url.removesuffix("/tenantwatch")
    viewer = re.sub(r"//.*@", f"//{file.stem}:{password}@", reader)
    return {"reader": Peer(reader, DEPLOYED_USERS[2], OWN), "viewer": Peer(viewer, file, None)}


def _fill(writer: Database) -> dict[str, bool]:
    """Put rows of everybody into every table that says whose its rows are, and one into each other."""
    columns: dict[str, dict[str, str]] = {}
    for row in writer.query(
        "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() "
        "AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY table, position"
    ):
        columns.setdefault(row["table"], {})[row["name"]] = row["type"]
    for table, types in columns.items():
        everybody = ROWS if "tenant_id" in types else {OTHER: (0,)}
        rows = [
            _row(types, tenant_id, n, day) for tenant_id in everybody for n, day in enumerate(ROWS[tenant_id])
        ]
        writer.insert_rows(table, rows)
        # In one part, and so in one granule: what a granule tells, it tells of every tenant.
        writer.command(f"OPTIMIZE TABLE {table} FINAL")
    return {table: "tenant_id" in types for table, types in columns.items()}


def _row(types: dict[str, str], tenant_id: str, n: int, day: int) -> dict[str, Any]:
    """Return a row that says in each text whose it is."""
    time = datetime.now(UTC) + timedelta(days=day)
    row: dict[str, Any] = {}
    for name, kind in types.items():
        if name == "tenant_id":
            row[name] = tenant_id
        elif name == "kind":
            row[name] = "auth"
        elif name == "version":
            row[name] = n + 10 * list(ROWS).index(tenant_id)
        elif kind in ("String", "LowCardinality(String)"):
            row[name] = json.dumps({"row_of": tenant_id or "platform", "n": n})
        elif kind.startswith("DateTime64"):
            row[name] = time
    return row
