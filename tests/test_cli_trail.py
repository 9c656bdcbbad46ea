"""`tenantwatch verify`, `evidence`, `seals` and `backup`, beside a running pipeline; the drill of a loss."""

import json
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tenantwatch.trail_audit import operator
from tests.conftest import CommandLine, Up, eventually, settings_env
from tests.conftest import _await_ready as await_ready
from tests.schema_examples import encode, event

ROWS = 60


def send(line: CommandLine, tenant: str, count: int, first: int = 0) -> None:
    """Send events of a tenant, which is new perhaps."""
    events = [event(tenant_id=tenant, event_id=f"{tenant}-{i}") for i in range(first, first + count)]
    done = line.run("replay", "-", stdin=b"\n".join(map(encode, events)))
    assert done.returncode == 0, done.stderr


def verified(line: CommandLine, tenant: str, rows: int) -> Callable[[], dict[str, Any] | None]:
    """Return what looks whether so many of a tenant's rows are sealed."""

    def look() -> dict[str, Any] | None:
        found = json.loads(line.run("verify", "--tenant", tenant, "--json").stdout)
        return found if found["rows"] >= rows else None

    return look


@pytest.fixture(scope="module")
def sealed(up: Up) -> Up:
    """The pipeline, with rows of two tenants that are sealed."""
    for tenant in ("trail-a", "trail-b"):
        send(up, tenant, ROWS)
    for tenant in ("trail-a", "trail-b"):
        eventually(verified(up, tenant, ROWS))
    return up


@pytest.fixture(scope="module")
def bundle(sealed: Up, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence of one of them."""
    path = tmp_path_factory.mktemp("evidence") / "trail-a.zip"
    manifest = sealed.json("evidence", "export", str(path), "--tenant", "trail-a")
    assert manifest["rows"] >= ROWS
    return path


@pytest.fixture(scope="module")
def public_key(sealed: Up, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public key, in a file."""
    path = tmp_path_factory.mktemp("key") / "seal.pem"
    path.write_text(sealed.json("seals", "key")["public_key"])
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> CommandLine:
    """A machine that has neither a store nor a key."""
    return CommandLine(settings_env(tmp_path / "nowhere"))


# Verifying.


def test_a_trail_is_sealed_by_itself_and_holds(sealed: Up) -> None:
    """Without a tenant, everybody's."""
    done = sealed.run("verify")
    assert done.returncode == 0, done.stdout
    assert "the trail holds" in done.stdout


def test_reading_the_trail_is_in_the_trail(sealed: Up) -> None:
    """Each verification of a tenant is an access event of it, sealed in its turn."""
    found = eventually(verified(sealed, "trail-b", ROWS + 1))
    assert found["audited"] is True
    assert found["holds"] is True


def test_anchors_are_kept_and_compared(sealed: Up) -> None:
    """The newest heads are on this machine, outside the store."""
    log = sealed.data_dir / "seals" / "anchors.ndjson"
    eventually(log.exists)
    assert sealed.json("verify", "--tenant", "trail-a")["anchors"] > 0
    forged = log.with_name("forged.ndjson")
    anchor = json.loads(log.read_text().splitlines()[0])
    forged.write_text(json.dumps(anchor | {"sequence": 10_000, "digest": "0" * 64}))
    done = sealed.run("verify", "--anchors", str(forged), "--json")
    assert done.returncode == 1
    assert "seal_missing" in [finding["kind"] for finding in json.loads(done.stdout)["findings"]]


def test_anchors_are_sent_to_a_topic(sealed: Up, tmp_path: Path) -> None:
    """One that workers create, and that `verify` can compare with."""
    consumer = Consumer({"bootstrap.servers": sealed.status["kafka"], "group.id": "anchors"})
    consumer.assign([TopicPartition("audit.seals", 0, 0)])
    message = eventually(lambda: consumer.poll(1.0))
    consumer.close()
    file = tmp_path / "anchors.ndjson"
    file.write_bytes(message.value() + b"\n")
    assert sealed.run("verify", "--tenant", "trail-a", "--anchors", str(file)).returncode == 0


def test_how_far_the_trail_is_sealed_is_shown(sealed: Up) -> None:
    """By `seals status`, by `reconcile` and by `doctor`."""
    found = sealed.json("seals", "status")
    assert found["seals"] > 0
    assert found["key_id"] in found["keys"]
    assert "seals" in sealed.json("reconcile")
    assert "seals" in {check["name"] for check in json.loads(sealed.run("doctor", "--json").stdout)}


# Evidence.


def test_a_bundle_is_verified_with_the_public_key_alone(
    bundle: Path, public_key: Path, elsewhere: CommandLine
) -> None:
    """On a machine that has nothing else."""
    done = elsewhere.run("verify", "--offline", str(bundle), "--key", str(public_key), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["findings"], found["tenants"]) == (0, [], 1)
    assert found["rows"] >= ROWS
    assert found["bundle"]["exported_by"].startswith("operator:")


def test_a_bundle_says_when_its_own_key_is_all_there_is(bundle: Path, elsewhere: CommandLine) -> None:
    """It proves no more than that it agrees with itself."""
    done = elsewhere.run("verify", "--offline", str(bundle))
    assert done.returncode == 0
    assert "compare their ids" in done.stderr


def test_a_bundle_by_another_key_is_not_believed(
    bundle: Path, elsewhere: CommandLine, tmp_path: Path
) -> None:
    """Whoever made it had no key of ours."""
    from store.seals.keys import Signer, pem

    other = tmp_path / "other.pem"
    other.write_text(pem(Signer.new().public))
    done = elsewhere.run("verify", "--offline", str(bundle), "--key", str(other), "--json")
    assert done.returncode == 1
    assert {"unknown_key"} <= {finding["kind"] for finding in json.loads(done.stdout)["findings"]}


def rewritten(bundle: Path, out: Path, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """Return a bundle whose rows were changed, and whose manifest says so."""
    import hashlib

    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(out, "w") as new:
        rows = b"".join(change(old.read("rows.ndjson").splitlines(keepends=True)))
        manifest = json.loads(old.read("manifest.json"))
        manifest["files"]["rows.ndjson"]["sha256"] = hashlib.sha256(rows).hexdigest()
        for name in old.namelist():
            new.writestr(
                name, {"rows.ndjson": rows, "manifest.json": json.dumps(manifest)}.get(name, old.read(name))
            )
    return out


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("altered", lambda rows: [rows[0].replace(b'"success"', b'"failure"'), *rows[1:]]),
        ("removed", lambda rows: rows[1:]),
        ("duplicated", lambda rows: [*rows, rows[0]]),
        ("inserted", lambda rows: [*rows, rows[0].replace(b'"event_id":"', b'"event_id":"forged-')]),
    ],
)
def test_tampering_with_a_bundle_is_found(
    bundle: Path, public_key: Path, elsewhere: CommandLine, tmp_path: Path, kind: str, change: Any
) -> None:
    """As in the store; and the manifest is no longer what was signed."""
    forged = rewritten(bundle, tmp_path / "forged.zip", change)
    done = elsewhere.run("verify", "--offline", str(forged), "--key", str(public_key), "--json")
    assert done.returncode == 1, done.stderr
    assert {kind, "bad_signature"} == {finding["kind"] for finding in json.loads(done.stdout)["findings"]}


def test_a_file_that_is_no_bundle_is_refused(elsewhere: CommandLine, tmp_path: Path) -> None:
    """In one line."""
    file = tmp_path / "no.zip"
    file.write_bytes(b"no")
    done = elsewhere.run("verify", "--offline", str(file))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no evidence bundle" in done.stderr


def test_evidence_replaces_no_file(sealed: Up, bundle: Path) -> None:
    """And a tenant without rows has none."""
    done = sealed.run("evidence", "export", str(bundle), "--tenant", "trail-a")
    assert done.returncode == 1
    assert "exists already" in done.stderr
    done = sealed.run("evidence", "export", str(bundle.with_name("ghost.zip")), "--tenant", "ghost")
    assert "no sealed rows" in done.stderr
    assert not bundle.with_name("ghost.zip").exists()


# The key.


def test_a_rotated_key_goes_on_with_the_chains(sealed: Up, bundle: Path) -> None:
    """Old seals stay believed, new ones are by the new key, and so says a signed statement."""
    done = sealed.json("seals", "rotate")
    assert sealed.json("seals", "key")["key_id"] == done["key_id"] != done["previous_key_id"]
    rows = sealed.json("verify", "--tenant", "trail-a")["rows"]
    send(sealed, "trail-a", 5, first=1_000)
    found = eventually(verified(sealed, "trail-a", rows + 5))
    assert found["holds"] is True
    assert {done["key_id"], done["previous_key_id"]} <= set(found["keys"])


# Backup and restore.


def test_nothing_counts_any_more_by_a_key_that_was_stolen(sealed: Up) -> None:
    """Its seals hold by those of the key that took its place; the one that signs is not ended."""
    old = sealed.json("seals", "key")["key_id"]
    assert sealed.run("seals", "retire", old).returncode == 1
    sealed.json("seals", "rotate")
    send(sealed, "trail-a", 5, first=2 * ROWS)
    eventually(lambda: sealed.json("seals", "status")["unsealed"] == 0)
    wrong = sealed.run("seals", "retire", old, "--stolen-since", "lately")
    assert (wrong.returncode, "'lately' is no time" in wrong.stderr) == (2, True)
    done = sealed.json("seals", "retire", old, "--stolen-since", "0d")
    assert done["key_id"] == old
    ended = json.loads((sealed.data_dir / "keys" / "trusted" / "ended.json").read_text())
    assert ended[old].startswith("1970-01-01")
    found = json.loads(sealed.run("verify", "--tenant", "trail-a", "--json").stdout)
    assert [f for f in found["findings"] if f["kind"] != "unsealed"] == []


@pytest.fixture(scope="module")
def backups(sealed: Up, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a backup that was made while the pipeline ran, keys and all."""
    folder = tmp_path_factory.mktemp("backups")
    passphrase = folder.with_name("passphrase")
    passphrase.write_text("a passphrase of some length\n")
    made = sealed.json("backup", "create", str(folder), "--passphrase-file", str(passphrase))
    assert {"master.key", "seal.pem"} <= set(made["keys"])
    assert made["keys_elsewhere"] == {"API's key": str(sealed.data_dir / "api-keys.json")}
    return folder


def test_a_backup_is_listed_and_its_seals_hold(sealed: Up, backups: Path) -> None:
    """It is restored into a store that is thrown away."""
    [listed] = sealed.json("backup", "list", str(backups))
    assert listed["events"] >= 2 * ROWS
    found = sealed.json("backup", "verify", str(backups))
    assert (found["holds"], found["heads_equal"], found["signed"]) == (True, True, True)


def test_keys_are_not_in_a_backup_unless_asked(sealed: Up, tmp_path: Path) -> None:
    """Nor is anything in it readable by others."""
    done = sealed.run("backup", "create", str(tmp_path))
    assert done.returncode == 0
    for key, name in (("master", "master.key"), ("seal", "seal.pem")):
        assert f"the {key} key is not in the backup: it is {sealed.data_dir}/keys/{name}" in done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith("keys")]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    private = (sealed.data_dir / "keys" / "seal.pem").read_text().splitlines()[1]
    assert not [path for path in files if private.encode() in path.read_bytes()]


def test_what_is_done_with_backups_is_in_the_platforms_trail(
    sealed: Up, public_key: Path, tmp_path: Path
) -> None:
    """Making, verifying and restoring one; a new store's own Kafka is not there yet, the cluster's is."""
    platform = {"TENANTWATCH_PLATFORM_TENANT": "trail-b"}
    here = CommandLine({**sealed.env, **platform})
    folder, signed_by = str(tmp_path / "backups"), tmp_path / "public.pem"
    signed_by.write_text(sealed.json("seals", "key")["public_key"])  # another, once it was rotated
    made = here.json("backup", "create", folder)
    checked = here.json("backup", "verify", folder, "--quick")
    there = CommandLine(settings_env(tmp_path / "data", kafka=sealed.status["kafka"]) | platform)
    keys = ("--key", str(public_key), "--key", str(signed_by))
    done = there.json("backup", "restore", folder, *keys)
    assert [one["audited"] for one in (made, checked, done)] == [True, True, True]
    name = Path(made["path"]).name
    rows = {"backup": made["rows"], "restore": done["rows"], "verify": made["rows"]}
    expected = [(action, name, count) for action, count in rows.items()]

    def told() -> bool:
        done = sealed.run("privacy", "export", "--tenant", "trail-b", "--subject", operator())
        found = map(json.loads, done.stdout.splitlines())
        return expected == sorted(
            (one["action"], one["resource_id"], one["record_count"])
            for one in found
            if one.get("resource_type") == "backup"
        )

    eventually(told)


def test_a_backup_that_is_in_no_trail_is_told(sealed: Up, backups: Path, tmp_path: Path) -> None:
    """Where no tenant is the platform's, and where there is no Kafka; it is verified all the same."""
    public_key = tmp_path / "public.pem"
    public_key.write_text(sealed.json("seals", "key")["public_key"])
    look = ("backup", "verify", str(backups), "--quick", "--key", str(public_key))
    done = sealed.run(*look)
    assert (done.returncode, "TENANTWATCH_PLATFORM_TENANT" in done.stderr) == (0, True)
    alone = CommandLine(settings_env(tmp_path / "nowhere", platform_tenant="trail-b"))
    done = alone.run(*look)
    assert (done.returncode, "TENANTWATCH_KAFKA is not set" in done.stderr) == (0, True)


def test_a_damaged_backup_is_named_and_not_restored(sealed: Up, backups: Path, tmp_path: Path) -> None:
    """One byte is enough."""
    copy = Path(shutil.copytree(backups, tmp_path / "copy"))
    [file] = copy.glob("*/tables/events-00001*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = sealed.run("backup", "verify", str(copy))
    assert done.returncode == 1
    assert "tables/events-00001" in done.stderr
    (file.parent.parent / "manifest.json").unlink()
    assert "no complete backup" in sealed.run("backup", "verify", str(copy)).stderr


def test_a_passphrase_that_is_wrong_opens_nothing(backups: Path, tmp_path: Path) -> None:
    """And nothing is restored."""
    wrong = tmp_path / "wrong"
    wrong.write_text("another passphrase of some length")
    line = CommandLine(settings_env(tmp_path / "data"))
    done = line.run("backup", "restore", str(backups), "--passphrase-file", str(wrong))
    assert done.returncode == 1
    assert "does not open the keys" in done.stderr
    assert not (tmp_path / "data" / "clickhouse").exists()


@pytest.fixture
def restored(backups: Path, tmp_path: Path) -> CommandLine:
    """An empty machine, after the backup was restored there."""
    line = CommandLine(settings_env(tmp_path / "data", seal_interval_s="1"))
    passphrase = backups.with_name("passphrase")
    found = line.json("backup", "restore", str(backups), "--passphrase-file", str(passphrase))
    assert (found["holds"], found["heads_equal"]) == (True, True)
    return line


def test_a_restored_store_takes_no_second_backup(restored: CommandLine, backups: Path) -> None:
    """What exists is never replaced."""
    done = restored.run("backup", "restore", str(backups))
    assert done.returncode == 1
    assert "not empty" in done.stderr


@pytest.fixture
def worker_after_loss(restored: CommandLine, tmp_path: Path) -> Iterator[CommandLine]:
    """A pipeline on what was restored; its Kafka is a new one."""
    log_path = tmp_path / "up.log"
    with log_path.open("wb") as log, restored.start("up", stdout=log, stderr=log) as process:
        try:
            await_ready(tmp_path / "data", process, log_path)
            yield restored
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def test_the_drill(worker_after_loss: CommandLine, backups: Path) -> None:
    """All is lost but the backup: restore, start, tenants from the file, new events, and the trail holds."""
    line = worker_after_loss
    before = json.loads(line.run("verify", "--tenant", "trail-a", "--json").stdout)
    assert before["holds"] is True
    [tenants] = backups.glob("*/tenants.ndjson")
    assert line.run("tenants", "apply", str(tenants)).returncode == 0
    send(line, "trail-a", 10, first=5_000)
    found = eventually(verified(line, "trail-a", before["rows"] + 10))
    assert found["holds"] is True
    assert found["chains"] > before["chains"]  # the new Kafka's offsets begin again, and so does a chain
