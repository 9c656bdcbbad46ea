"""The canonical form of a row: the same from the engine and from an exported line."""

import hashlib
import json
from datetime import timedelta

import pytest

from store.database import Database
from store.seals.canonical import CURRENT_FORM, FORMS, IDENTITY, columns, leaf, leaf_sql
from tests.sealed_trail import NOW, SealedTrail, batch

_JSON = "SETTINGS date_time_output_format = 'iso', output_format_json_quote_64bit_integers = 0"


def hashes(trail: SealedTrail) -> tuple[list[bytes], list[bytes]]:
    """Return the hashes of a trail's rows by the engine, and by Python from exported lines."""
    where = "FROM events WHERE kafka_cluster_id = {c:String} ORDER BY kafka_topic, kafka_offset"
    bound = {"c": trail.ids.cluster_id}
    there = trail.database.query(f"SELECT hex({leaf_sql(CURRENT_FORM)}) AS leaf {where}", bound)
    lines = trail.database.query_raw(
        f"SELECT {', '.join(columns(CURRENT_FORM))} {where} {_JSON}", bound, "JSONEachRow"
    )
    here = [leaf(json.loads(line), CURRENT_FORM) for line in lines.splitlines()]
    return [bytes.fromhex(row["leaf"]) for row in there], here


def test_the_engine_and_an_exported_line_give_the_same_hash(database: Database) -> None:
    """Every kind, every field, texts that JSON must escape, numbers at their ends, and what is not there."""
    trail = SealedTrail(database)
    odd = 'quote " back\\slash / tab\t newline\n \x1f Zoë 漢字 \U0001f600' + "x" * 200
    trail.store(3, user_agent=odd, reason="locked", attributes={"text": odd, "n": 1.5, "no": None})
    trail.store(2, "access", record_count=2**63 - 1, resource_id=odd[:60], permission="jobs:read")
    trail.store(1, "access", record_count=0)
    trail.store(2, "request", http_status=599, duration_ms=0.1 + 0.2, bytes_in=0, bytes_out=2**53 + 1)
    trail.store(1, "request", duration_ms=1e-300, http_path="/" + "p" * 300)
    there, here = hashes(trail)
    assert len(there) == 9
    assert len(set(there)) == 9
    assert there == here


def test_a_time_is_exact_to_the_millisecond(database: Database) -> None:
    """However long ago it was."""
    trail = SealedTrail(database)
    trail.put(batch("auth", trail.tenant, range(2), NOW, NOW - timedelta(days=20_000, milliseconds=1)))
    there, here = hashes(trail)
    assert there == here


@pytest.mark.parametrize(
    "changes", [{"outcome": "failure"}, {"flags": 1}, {"record_count": 0}, {"user_id": "user-1\0"}]
)
def test_whatever_is_changed_changes_the_hash(database: Database, changes: dict[str, object]) -> None:
    """Also what enrichment added, and null to zero."""
    trail = SealedTrail(database)
    trail.store(1)
    [line] = trail.database.query_raw(
        f"SELECT {', '.join(columns(CURRENT_FORM))} FROM events "
        f"WHERE kafka_cluster_id = {{c:String}} {_JSON}",
        {"c": trail.ids.cluster_id},
        "JSONEachRow",
    ).splitlines()
    row = json.loads(line)
    assert leaf(row | changes, CURRENT_FORM) != leaf(row, CURRENT_FORM)


def test_no_two_rows_share_their_bytes_by_where_a_text_ends() -> None:
    """Texts are written after their lengths."""
    blank: dict[str, object] = {name: "" for name, kind in FORMS[1] if kind == "String"}
    blank |= {name: None for name, kind in FORMS[1] if kind.startswith("Nullable")}
    blank |= {name: 0 for name, kind in FORMS[1] if kind in ("Int64", "UInt8")}
    blank |= {name: "2026-01-31T00:00:00.000Z" for name, kind in FORMS[1] if kind.startswith("DateTime")}
    assert leaf(blank | {"event_id": "ab"}, 1) != leaf(blank | {"event_id": "a", "service": "b"}, 1)


def test_the_newest_form_holds_every_column_of_the_trail(database: Database) -> None:
    """A migration that adds a column needs a form with it: what no form holds can be changed unseen."""
    described = database.query("DESCRIBE TABLE events")
    stored = {row["name"] for row in described if row["default_type"] not in ("MATERIALIZED", "ALIAS")}
    assert stored == {*columns(CURRENT_FORM)}
    assert set(IDENTITY) <= stored


def test_a_form_that_was_used_is_not_edited() -> None:
    """Old seals are verified with it: add a form instead."""
    found = {form: hashlib.sha256(repr(FORMS[form]).encode()).hexdigest()[:16] for form in FORMS}
    assert found == {1: "97c40e843c08b2dd"}


def test_a_line_that_is_no_row_is_refused() -> None:
    """It says what is missing."""
    with pytest.raises(ValueError, match="kind"):
        leaf({"tenant_id": "tenant-a"}, 1)
