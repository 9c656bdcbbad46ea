"""`tenantwatch reconcile`: is every event accounted for?"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

from store.database import Database
from streams.accounts import ledger_rows
from tests.conftest import CommandLine, Up, eventually, settings_env
from tests.schema_examples import encode, event
from tests.test_reconciliation import Books
from tests.test_recovery import PARTITION, TOPIC


def test_a_running_pipeline_adds_up_to_what_kafka_has_committed(up: Up) -> None:
    """Every partition's account reaches the committed offset, and the rows are there."""
    tenant = encode({"tenant_id": "books", "organization_id": "o", "name": "Books"})
    assert up.run("tenants", "apply", "-", stdin=tenant).returncode == 0
    lines = b"\n".join(encode(event(tenant_id="books", event_id=f"b-{i}")) for i in range(50))
    assert up.run("replay", "-", stdin=lines).returncode == 0

    def all_stored() -> dict[str, Any] | None:
        found: dict[str, Any] = up.json("reconcile")
        return found if sum(account["rows"] for account in found["accounts"]) >= 50 else None

    found = eventually(all_stored)
    assert found["committed_checked"]
    assert found["gaps"] == []


def test_a_gap_is_named_and_is_exit_code_1(invoke: Callable[..., Result], database: Database) -> None:
    """In words and as JSON: whoever runs it from a script goes by that."""
    books = Books(database)
    lost = books.handle(asyncio.run(books.take_over(0)), 0, 3)
    books.writer.insert_rows("ledger", ledger_rows([lost], "worker-1"))
    done = invoke("reconcile", env={"COLUMNS": "300"})
    assert done.exit_code == 1
    assert f"{TOPIC} {PARTITION}: rows_missing: the ledger has 3 events stored, the store 0" in done.output
    assert "every offset and every row is accounted for" not in done.output
    as_json = invoke("reconcile", "--json")
    assert as_json.exit_code == 1
    assert "rows_missing" in {gap["kind"] for gap in json.loads(as_json.stdout)["gaps"]}


def test_with_nothing_handled_there_is_nothing_to_check(tmp_path: Path) -> None:
    """And it is said that Kafka was not asked."""
    (tmp_path / "data").mkdir()
    done = CommandLine(settings_env(tmp_path / "data")).run("reconcile")
    assert done.returncode == 0, done.stderr
    assert "nothing has been handled yet" in done.stdout + done.stderr
    assert "Kafka was not asked" in done.stdout + done.stderr
