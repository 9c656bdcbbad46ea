"""A store in a process of its own, in which people are forgotten: what `test_forgetting.py` looks at.

``python -m tests.forgetting forget ROOT`` fills and seals a store in ROOT, forgets people and backs it up;
``… restore ROOT`` restores that backup into an empty one: a process has one engine. Both print what they saw.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from schemas.batch import EventBatch
from schemas.event import KINDS, Kind
from schemas.parse import parse
from schemas.tenant import Tenant
from store.backups.create import create
from store.backups.manifest import Backup, newest
from store.backups.restore import prove, restore
from store.database import Database
from store.migrations import migrate
from store.privacy import Privacy
from store.queries import TenantContext
from store.seals.keys import SealKeys
from store.seals.trail import StoredTrail
from store.seals.verification import Verification
from store.vault import Vault
from streams.pseudonyms import Pseudonymiser
from tests.api_server import MASTERS
from tests.files import files_holding
from tests.schema_examples import encode, event
from tests.sealed_trail import SealedTrail

PEOPLE: Final = 300
FORGOTTEN: Final = 100
ROUNDS: Final = 4
# No word of ours and no number of the store's has it.
MARK: Final = "zqxj"
WHO: Final = {"actor": "officer", "now": datetime.now(UTC)}


def name(n: int) -> str:
    """Return the part of a person's address that is theirs alone."""
    return f"{MARK}-{n:03}-{MARK}"


def address(n: int) -> str:
    """Return what the events call a person."""
    return f"{name(n)}@example.com"


def number(n: int) -> str:
    """Return a number as authorities give people; no such number is given to anybody."""
    return f"987-65-4{n:03}"


def originals(n: int) -> tuple[str, str, str]:
    """Return all that the vault holds of a person."""
    return address(n), name(n), number(n)


def searched_names() -> list[bytes]:
    """Return what must not be found of the forgotten, as events write it."""
    written = [(name(n), name(n).upper(), number(n)) for n in range(FORGOTTEN)]
    return [text.encode() for texts in written for text in texts]


def events(kind: Kind, tenant_id: str, round_: int) -> Iterator[dict[str, Any]]:
    """Yield an event of each person, who is named in it wherever a person may be."""
    for n in range(PEOPLE):
        who = address(n)
        fields: dict[str, Any] = {
            "auth": {"user_id": who, "user_agent": f"sync/1.0 (mailto:{who})"},
            "access": {"user_id": who.upper(), "resource_id": f"user:{who}"},
            "request": {"user_id": who, "http_path": f"/users/{who.replace('@', '%40')}/jobs"},
        }[kind]
        attributes = {"email": who, "full_name": name(n), "ssn": number(n), "note": f"{who} asked"}
        event_id = f"{kind}-{round_}-{n}"
        yield event(
            kind, tenant_id=tenant_id, event_id=event_id, **fields, attributes=attributes, to=[{"cc": who}]
        )


def batch(kind: Kind, tenant_id: str, round_: int, trail: SealedTrail) -> EventBatch:
    """Return a batch as enrichment leaves it, at the next offsets of its topic."""
    parsed = parse(kind, [encode(one) for one in events(kind, tenant_id, round_)])
    assert parsed.rejections == []
    topic = f"audit.{kind}"
    first = trail.stored(topic)
    trail.advance(topic, PEOPLE)
    return replace(
        parsed.batch,
        topic=topic,
        tenants=(Tenant(tenant_id=tenant_id, organization_id="o", name="n"),),
        tenant_versions=(1,),
        ingest_time_ms=int(trail.now.timestamp() * 1000),
        flags=np.zeros(PEOPLE, np.uint8),
        offset=np.arange(first, first + PEOPLE, dtype=np.int64),
    )


def contents(database: Database, *needles: bytes) -> list[str]:
    """Return the tables, of any database, that hold any of some bytes in any column."""
    tables = database.query(
        "SELECT database, table, arrayStringConcat(groupArray(name), ', ') AS columns FROM system.columns "
        "WHERE (database, table) IN "
        "(SELECT database, name FROM system.tables WHERE endsWith(engine, 'MergeTree')) "
        "AND NOT startsWith(table, '.') AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') "
        "GROUP BY database, table"
    )
    found = []
    for row in tables:
        # Binary: text formats would write some bytes in another way.
        rows = database.query_raw(
            f"SELECT {row['columns']} FROM {row['database']}.{row['table']}", None, "RowBinary"
        )
        if any(needle in rows for needle in needles):
            found.append(str(row["table"]))
    return sorted(found)


def unpacked(backup: Backup, *needles: bytes) -> list[str]:
    """Return the files of a backup that hold any of some bytes, once they are decompressed."""
    found = []
    for file, said in backup.files():
        content = (backup.path / file).read_bytes()
        if "bytes" in said:
            content = pa.Codec("zstd").decompress(content, said["bytes"], asbytes=True)
        if any(needle in content for needle in needles):
            found.append(file)
    return found


def revealed(vault: Vault, tenant: TenantContext, n: int) -> list[str]:
    """Return what the vault says of a person."""
    pseudonym = vault.pseudonym(tenant.tenant_id, address(n))
    return list(vault.reveal(tenant, [pseudonym], actor="officer", reason="looks").values())


def forget(root: Path) -> dict[str, Any]:
    """Fill, seal, forget, verify, back up."""
    data = root / "first" / "clickhouse"
    database = Database.embedded(data)
    migrate(database)
    vault, ring = Vault(database, MASTERS), SealKeys(root / "keys")
    trail = SealedTrail(database, mark="forgetting")
    tenant = TenantContext(trail.tenant)
    pseudonymiser = Pseudonymiser(vault.pseudonym_key)
    for round_ in range(ROUNDS):
        for kind in KINDS:
            now_ms = int(time.time() * 1000)
            stored, subjects = pseudonymiser.apply(batch(kind, trail.tenant, round_, trail), now_ms)
            vault.keep(subjects)
            trail.put(stored)
        trail.seal(ring.signer)
    database.command("OPTIMIZE TABLE vault FINAL")
    rights = Privacy(database, vault)
    gone = [said for n in range(FORGOTTEN) for said in originals(n)]
    sealed = {row["pseudonym"]: bytes.fromhex(row["b"]) for row in database.query(
        "SELECT pseudonym, hex(original) AS b FROM vault")}  # fmt: skip
    ciphers = [sealed[one][-30:] for one in rights.pseudonyms(tenant, gone)]
    kept = [sealed[one][-30:] for one in rights.pseudonyms(tenant, [address(FORGOTTEN)])]
    names = searched_names()
    seen: dict[str, Any] = {
        "people": len(sealed),
        "before": [len(files_holding(data, *ciphers)) > 0, contents(database, *ciphers)],
        "revealed": [revealed(vault, tenant, n) for n in (0, FORGOTTEN)],
    }
    # Whoever asks by the original must not thereby write it down.
    looks = {"actor": "officer", "reason": "looks"}
    seen["looked_up"] = [
        [
            list(vault.reveal(tenant, [said], **looks).values()),
            list(next(rights.export(tenant, [said], **looks))["pseudonyms"].values()),
        ]
        for said in originals(0)
    ]
    rights.release(tenant, [rights.hold(tenant, name(0), **WHO, reason="case 3").hold_id], **WHO, reason="")
    hold = rights.hold(tenant, address(FORGOTTEN), reason=f"case of {address(0)}", **WHO)
    rights.release(tenant, [hold.hold_id], reason=f"{address(0)} asked", **WHO)
    told = rights.forget(tenant, gone, reason=f"{address(0)} asked, and others", **WHO)
    verdict = Verification(StoredTrail(database), ring.trust()).run()
    backup = create(database, root / "backups", ring.signer, datetime.now(UTC))
    seen |= {
        "removed": told["removed"]["rows"],
        "speaking": told["kept"]["rows"]["events"],
        "rows": verdict.rows,
        "holds": verdict.holds,
        "findings": sorted({finding.kind for finding in verdict.findings}),
        "rows_of_forgotten": sum(finding.rows for finding in verdict.findings),
        "originals": [
            [str(path.relative_to(root)) for path in files_holding(root, *names, *ciphers)],
            contents(database, *names, *ciphers),
            unpacked(backup, *names, *ciphers),
        ],
        "of_others": [
            len(files_holding(data, *kept)) > 0, contents(database, *kept), unpacked(backup, *kept)
        ],
        "revealed_after": [revealed(vault, tenant, n) for n in (0, FORGOTTEN)],
        # That the searches can find a name at all.
        "control": [contents(database, b"officer"), unpacked(backup, b"officer")],
        "ciphers": [cipher.hex() for cipher in ciphers],
    }  # fmt: skip
    database.close()
    return seen


def restored(root: Path) -> dict[str, Any]:
    """Restore the backup that was made after the forgetting."""
    seen = json.loads((root / "forgotten.json").read_text())
    searched = [bytes.fromhex(cipher) for cipher in seen["ciphers"]]
    searched += searched_names()
    data = root / "second" / "clickhouse"
    database = Database.embedded(data)
    backup = newest(root / "backups")
    trust = SealKeys(root / "keys").trust()
    restore(database, backup, trust)
    verdict, differ = prove(database, backup, trust)
    vault, tenant = Vault(database, MASTERS), TenantContext("tenant-forgetting-a")
    found = {
        "rows": verdict.rows,
        "holds": verdict.holds and not differ,
        "findings": sorted({finding.kind for finding in verdict.findings}),
        "originals": [list(map(str, files_holding(data, *searched))), contents(database, *searched)],
        "revealed": [revealed(vault, tenant, n) for n in (0, FORGOTTEN)],
    }
    database.close()
    return found


if __name__ == "__main__":
    chosen, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps({"forget": forget, "restore": restored}[chosen](folder)))
