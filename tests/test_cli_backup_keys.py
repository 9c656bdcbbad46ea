"""`backup create` says which keys are in a backup and where the others are; no worker runs."""

from base64 import b64encode
from pathlib import Path

import pytest
from conftest import CommandLine, settings_env

from store.master_key import create_key_file
from store.seals.keys import SealKeys


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("master_key_file", "{folder}/elsewhere.key"),
        ("master_key", "the setting TENANTWATCH_MASTER_KEY"),
        ("kms", "the KMS package:function"),
    ],
)
def test_a_backup_says_which_keys_are_not_in_it(tmp_path: Path, setting: str, where: str) -> None:
    """Under a passphrase is what the key directory holds; a vault without its master key cannot be read."""
    values = {
        "master_key_file": str(tmp_path / "elsewhere.key"),
        "master_key": "c2VjcmV0",
        "kms": "package:function",
    }
    line = CommandLine(settings_env(tmp_path / "data", **{setting: values[setting]}))
    SealKeys(tmp_path / "data" / "keys")
    create_key_file(tmp_path / "elsewhere.key")
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a passphrase of some length")
    create = ("backup", "create", str(tmp_path / "backups"))
    done = line.run(*create, "--passphrase-file", str(passphrase))
    assert done.returncode == 0, done.stderr
    assert "keys are in it, under the passphrase: seal.pem" in done.stdout
    where = where.format(folder=tmp_path)
    assert f"the master key is not in the backup: it is {where}" in " ".join(done.stderr.split())
    assert "secret" not in done.stdout + done.stderr
    [listed] = line.json("backup", "list", str(tmp_path / "backups"))
    assert listed["keys"] == ["seal.pem"]
    assert "seal.pem" in line.run("backup", "list", str(tmp_path / "backups")).stdout


def test_a_backup_says_that_the_seal_key_is_a_setting(tmp_path: Path) -> None:
    """With nothing in the key directory there is nothing to put under a passphrase."""
    secret = b64encode(bytes(32)).decode()
    line = CommandLine(settings_env(tmp_path / "data", seal_key=secret))
    (tmp_path / "data").mkdir()
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a passphrase of some length")
    create = ("backup", "create", str(tmp_path / "backups"))
    refused = line.run(*create, "--passphrase-file", str(passphrase))
    assert refused.returncode == 1
    assert "leave the passphrase out" in refused.stderr
    told = " ".join(line.run(*create).stderr.split())
    assert "the seal key is not in the backup: it is the setting TENANTWATCH_SEAL_KEY" in told
    assert secret not in told
    other = CommandLine(settings_env(tmp_path / "other", seal_key=secret))
    none = other.run("backup", "restore", str(tmp_path / "backups"), "--passphrase-file", str(passphrase))
    assert "leave --passphrase-file out" in none.stderr
