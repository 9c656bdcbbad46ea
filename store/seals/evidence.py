"""Evidence bundles: a tenant's rows with their seals in one file, verifiable with the public key alone.

A ZIP file: ``rows.ndjson`` (rows as stored), ``seals.ndjson`` (signed bodies and their contents),
``statements.ndjson``, ``keys/*.pem`` (public keys), ``manifest.json`` with the digest of each, and
``manifest.sig``.
"""

import hashlib
import json
import zipfile
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from schemas.event import INDEX_BITS
from store.database import Database
from store.seals import chains
from store.seals.canonical import CURRENT_FORM, columns, leaf
from store.seals.comparison import Stored, TopicKey, within
from store.seals.findings import Finding
from store.seals.grouping import by_chain
from store.seals.keys import MANIFEST, Signer, Trust, pem, read_public
from store.seals.seal import LEAF, MAX_INDEX, ChainId, Seal
from store.seals.statements import Statement, read_shreddings, read_statements, state_shredded
from store.seals.trail import condition_of_run
from store.seals.verification import Verdict, Verification

FORMAT: Final = 1
ROWS: Final = "rows.ndjson"
SEALS: Final = "seals.ndjson"
STATEMENTS: Final = "statements.ndjson"
MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "manifest.sig"
ROWS_AT_ONCE: Final = 100_000
# Times as RFC 3339, numbers as numbers.
_JSON: Final = (
    "SETTINGS date_time_output_format = 'iso', output_format_json_quote_64bit_integers = 0, "
    "output_format_json_escape_forward_slashes = 0"
)


class BundleBroken(Exception):
    """The file is no evidence bundle, or not what its manifest says."""


class _Files:
    """Writes files into a ZIP, and keeps the digest of each."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.written: dict[str, dict[str, Any]] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        digest, size = hashlib.sha256(), 0

        with self._archive.open(name, "w", force_zip64=True) as file:

            def write(content: bytes) -> None:
                nonlocal size
                file.write(content)
                digest.update(content)
                size += len(content)

            yield write
        self.written[name] = {"sha256": digest.hexdigest(), "bytes": size}

    def put(self, name: str, content: bytes) -> None:
        with self.open(name) as write:
            write(content)


def export(
    database: Database,
    tenant_id: str,
    since: datetime | None,
    until: datetime | None,
    out: Path,
    signer: Signer,
    trust: Trust,
    exported_by: str,
    now: datetime,
) -> dict[str, Any]:
    """Write a bundle and return its manifest.

    Parameters
    ----------
    since, until
        Of each chain, the seals from the first to the last whose rows came then (``ingest_time``).
    signer
        Signs the manifest.
    trust
        Whose public keys go into the bundle.

    Raises
    ------
    ValueError
        If the tenant has no seal of that span.
    FileExistsError
        If there is such a file.
    """
    seals, _ = chains.read_seals(database, [tenant_id])
    runs = [*_runs(seals, since, until)]
    if not runs:
        raise ValueError(f"{tenant_id} has no sealed rows of that span; rows are sealed within a minute")
    statements, _ = read_statements(database)
    about = [s for s in statements if s.tenant_id == tenant_id or s.kind in ("key", "end")]
    forgotten = read_shreddings(database, tenant_id).get(tenant_id, set())
    about += [state_shredded(tenant_id, subject, now, signer) for subject in sorted(forgotten)]
    fresh = out.with_name(f"{out.name}.part")
    with out.open("xb"):
        pass
    try:
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            files = _Files(archive)
            with files.open(ROWS) as write:
                rows = sum(_write_rows(database, run, write) for run in runs)
            with files.open(SEALS) as write:
                for run in runs:
                    _write_seals(database, run, write)
            files.put(STATEMENTS, b"".join(_line(_signed(s.body, s.signature)) for s in about))
            for name, public in sorted(trust.keys.items()):
                files.put(f"keys/{name}.pem", pem(public).encode())
            manifest = {
                "format": FORMAT,
                "tenant_id": tenant_id,
                "since": since and since.isoformat(),
                "until": until and until.isoformat(),
                "exported_at": now.astimezone(UTC).isoformat(timespec="milliseconds"),
                "exported_by": exported_by,
                "rows": rows,
                **_covered(runs),
                "key_id": signer.key_id,
                "files": files.written,
            }
            text = json.dumps(manifest, indent=2).encode()
            archive.writestr(MANIFEST_FILE, text)
            archive.writestr(SIGNATURE_FILE, signer.sign(MANIFEST, text))
        fresh.replace(out)
    except BaseException:
        fresh.unlink(missing_ok=True)
        out.unlink(missing_ok=True)
        raise
    return manifest


def _runs(seals: Sequence[Seal], since: datetime | None, until: datetime | None) -> Iterator[list[Seal]]:
    """Yield of each chain the stretch from the first chosen seal to the last."""
    first_ms = since.timestamp() * 1000 if since else -np.inf
    last_ms = until.timestamp() * 1000 if until else np.inf
    for found in by_chain(seals).values():
        chosen = [
            i for i, s in enumerate(found) if s.last_ingest_ms >= first_ms and s.first_ingest_ms < last_ms
        ]
        if chosen:
            yield found[chosen[0] : chosen[-1] + 1]


def _covered(runs: Sequence[Sequence[Seal]]) -> dict[str, Any]:
    """Return what the manifest says of the seals."""
    chains_of_runs = [
        {
            "cluster_id": run[0].chain.cluster_id,
            "partition": run[0].chain.partition,
            "first": run[0].sequence,
            "last": run[-1].sequence,
        }
        for run in runs
    ]
    return {"seals": sum(map(len, runs)), "chains": chains_of_runs}


def _write_rows(database: Database, run: Sequence[Seal], write: Any) -> int:
    """Write the rows of a run of seals, a part of them at a time."""
    names = ", ".join(columns(CURRENT_FORM))
    part: list[Seal] = []
    written = 0
    for seal in [*run, None]:
        if part and (seal is None or sum(s.rows for s in part) + seal.rows > ROWS_AT_ONCE):
            condition, bound = condition_of_run(part)
            content = database.query_raw(
                f"SELECT {names} FROM events WHERE {condition} "
                f"ORDER BY kafka_topic_id, kafka_offset, message_index {_JSON}",
                bound,
                "JSONEachRow",
            )
            write(content)
            written += content.count(b"\n")
            part = []
        if seal is not None:
            part.append(seal)
    return written


def _write_seals(database: Database, run: Sequence[Seal], write: Any) -> None:
    stored = chains.read_contents(database, run[0].chain, run[0].sequence, run[-1].sequence)
    for seal in run:
        contents = chains.contents_of(stored, seal)
        given = _signed(seal.body, seal.signature)
        write(_line(given | {"contents": b64encode(contents or b"").decode()}))


def _signed(body: bytes, signature: str) -> dict[str, str]:
    return {"body": body.decode(), "signature": signature}


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class Bundle:
    """A bundle that was exported, as a trail that can be verified.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    BundleBroken
        If it is none, or a file in it is not what the manifest says.
    """

    complete = False

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                self.manifest_text = archive.read(MANIFEST_FILE)
                self.signature = archive.read(SIGNATURE_FILE).decode()
                self.manifest: dict[str, Any] = json.loads(self.manifest_text)
                for name, said in self.manifest["files"].items():
                    if _digest(archive.open(name)) != said["sha256"]:
                        raise BundleBroken(f"{path}: {name} is not what the manifest says")
                self.keys = {
                    name: archive.read(name).decode()
                    for name in self.manifest["files"]
                    if name.startswith("keys/")
                }
                self._seals, self._contents = _read_seals(archive.open(SEALS))
                self._statements = [
                    Statement.read(given["body"].encode(), given["signature"])
                    for given in map(json.loads, archive.open(STATEMENTS))
                ]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise BundleBroken(f"{path} is no evidence bundle: {error}") from error
        self._path = path
        self._shredded: dict[str, int] = {}

    def manifest_holds(self, trust: Trust) -> bool | None:
        """Return whether the manifest was signed so; None if the key is not known."""
        return trust.verifies(self.manifest["key_id"], MANIFEST, self.manifest_text, self.signature)

    def own_keys(self) -> Trust:
        """Return trust in the keys that the bundle itself brings: it proves no more than that they agree."""
        return Trust(map(read_public, self.keys.values()))

    def tenants(self, tenant_id: str | None) -> Mapping[str, int]:
        own = str(self.manifest["tenant_id"])
        return {own: int(self.manifest["rows"])} if tenant_id in (None, own) else {}

    def seals(self, tenant_ids: Sequence[str]) -> tuple[list[Seal], list[Mapping[str, Any]]]:
        return [seal for seal in self._seals if seal.chain.tenant_id in set(tenant_ids)], []

    def contents(self, chain: ChainId, first: int, last: int) -> Mapping[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for seal in self._seals:
            if seal.chain == chain and first <= seal.sequence <= last:
                found.setdefault(seal.sequence, []).append(self._contents[seal.body])
        return found

    def all_contents(self, tenant_ids: Sequence[str]) -> Mapping[ChainId, Mapping[int, list[bytes]]]:
        found: dict[ChainId, dict[int, list[bytes]]] = {}
        for seal in self._seals:
            found.setdefault(seal.chain, {}).setdefault(seal.sequence, []).append(self._contents[seal.body])
        return found

    def statements(self) -> tuple[list[Statement], int]:
        return self._statements, 0

    def shredded(self) -> Mapping[str, set[str]]:
        return {}

    def rows(self, tenant_ids: Sequence[str], form: int) -> dict[str, dict[TopicKey, Stored]]:
        found: dict[str, dict[TopicKey, Stored]] = {}
        for key, stored in self._read(form).items():
            found.setdefault(key.chain.tenant_id, {})[key] = stored
        return found

    def rows_of(self, seals: Sequence[Seal], form: int) -> dict[TopicKey, Stored]:
        chain = seals[0].chain
        whole = {key: stored for key, stored in self._read(form).items() if key.chain == chain}
        found = {}
        for key, stored in whole.items():
            intervals = [
                (i.first, i.next) for seal in seals for i in seal.intervals if i.topic_id == key.topic_id
            ]
            inside = within(stored.ids, intervals)
            found[key] = Stored(stored.ids[inside], stored.leaves[inside])
        return found

    def loose(
        self, tenant_id: str, covered: Mapping[TopicKey, Sequence[tuple[int, int]]]
    ) -> dict[TopicKey, Stored]:
        # Any of them that no seal covers was put there: it holds nothing but what was sealed.
        return {
            key: replace(stored, ingest_ms=np.zeros(len(stored.ids), np.int64))
            for key, stored in self._read(CURRENT_FORM).items()
        }

    def ledger_ends(self) -> Mapping[tuple[str, int, str], int]:
        return {}

    def rows_with(self, tenant_id: str, user_ids: Sequence[str]) -> int:
        chosen = set(user_ids)
        return sum(row["user_id"] in chosen for row in self._lines())

    def _lines(self) -> Iterator[dict[str, Any]]:
        with zipfile.ZipFile(self._path) as archive, archive.open(ROWS) as lines:
            yield from map(json.loads, lines)

    def _read(self, form: int) -> dict[TopicKey, Stored]:
        parts: dict[TopicKey, tuple[list[int], list[bytes]]] = {}
        for row in self._lines():
            chain = ChainId(row["tenant_id"], row["kafka_cluster_id"], row["kafka_partition"])
            key = TopicKey(chain, row["kafka_topic_id"], row["kafka_topic"])
            ids, leaves = parts.setdefault(key, ([], []))
            ids.append(row["kafka_offset"] << INDEX_BITS | min(row["message_index"], MAX_INDEX))
            leaves.append(leaf(row, form))
        found = {}
        for key, (ids, leaves) in parts.items():
            order = np.argsort(np.array(ids, np.int64), kind="stable")
            hashes = np.frombuffer(b"".join(leaves), LEAF)[order]
            found[key] = Stored(np.array(ids, np.int64)[order], hashes)
        return found


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _read_seals(lines: Iterable[bytes]) -> tuple[list[Seal], dict[bytes, bytes]]:
    seals, contents = [], {}
    for line in lines:
        given = json.loads(line)
        seal = Seal.read(given["body"].encode(), given["signature"])
        seals.append(seal)
        contents[seal.body] = b64decode(given["contents"])
    return seals, contents


def verify_bundle(bundle: Bundle, trust: Trust) -> Verdict:
    """Verify a bundle with public keys alone."""
    verdict = Verification(bundle, trust).run()
    if not bundle.manifest_holds(trust):
        known = bundle.manifest["key_id"] in trust.keys
        what = f"the manifest is not what the key {bundle.manifest['key_id']} signed"
        if not known:
            what = f"the manifest is signed by the key {bundle.manifest['key_id']}, which is not known here"
        kind: Any = "bad_signature" if known else "unknown_key"
        verdict.findings.append(Finding(kind, str(bundle.manifest["tenant_id"]), "", -1, what))
    return verdict
