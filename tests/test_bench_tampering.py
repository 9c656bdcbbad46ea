"""Tampering with one row or seal of a million, on a ClickHouse server: each kind is found and named."""

from pathlib import Path

import pytest

from bench.tampering import STATEMENTS, Tampering, tamper
from bench.trail import fill
from bench.trail_seals import seal_all
from store.database import Database
from store.migrations import migrate
from store.seals.keys import SealKeys
from store.seals.trail import StoredTrail
from store.seals.verification import Verification
from tests.clickhouse_server import ClickHouseServer

pytestmark = pytest.mark.slow
ROWS = 1_000_000
MAX_VERIFY_S = 30
OF_ROWS = ("altered", "removed", "inserted", "reordered", "duplicated")


def test_nine_kinds_of_tampering_are_named_among_a_million_rows(tmp_path: Path) -> None:
    """Each by its kind, tenant and row or seal, and within half a minute."""
    server = ClickHouseServer(tmp_path / "clickhouse", memory_mb=3_072)
    database = Database.server(server.start())
    try:
        migrate(database)
        *_, stored = fill(database, ROWS)
        ring = SealKeys(tmp_path / "keys")
        seal_all(database, ring.signer)
        before = Verification(StoredTrail(database), ring.trust()).run()
        assert (before.holds, before.findings, before.rows, stored) == (True, [], ROWS, ROWS)
        found = tamper(database, ring.trust(), lambda part: seal_all(database, ring.signer, [part]))
    finally:
        database.close()
        server.stop()
    assert [one.kind for one in found if one.named] == list(STATEMENTS)
    assert len(STATEMENTS) == 9
    for one in found:
        assert one.verify_s < MAX_VERIFY_S, one
        _check_place(one)


def _check_place(one: Tampering) -> None:
    if one.kind in OF_ROWS:
        [finding] = one.findings
        index = one.index + 500 if one.kind == "inserted" else one.index
        assert {"offset": one.offset, "index": index} in finding.places
        assert finding.rows == (2 if one.kind == "reordered" else 1)
    else:  # beside it, that the rows of such a seal are unproven
        [finding] = [each for each in one.findings if each.kind == one.kind and not each.rows]
        assert finding.sequences == [1]
