"""The key that signs seals: beside the store, readable by its owner only, replaced under its signature."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import CommandLine, settings_env

from store.seals.keys import SEAL, STATEMENT, KeyUnusable, SealKeys, Signer, Trust, pem, read_public
from store.seals.statements import Stated, state_end, state_key, state_retention

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_first_start_makes_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    """And the next one finds it."""
    ring = SealKeys(tmp_path / "keys")
    assert ring.path.stat().st_mode & 0o777 == 0o600
    assert ring.directory.stat().st_mode & 0o777 == 0o700
    assert SealKeys(tmp_path / "keys").signer.key_id == ring.signer.key_id


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever read it can sign."""
    path = SealKeys(tmp_path).path
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        SealKeys(tmp_path)


def test_a_key_from_a_setting_leaves_no_file(tmp_path: Path) -> None:
    """Workers of a cluster share one."""
    text = b64encode(bytes(range(32))).decode()
    first, second = SealKeys(tmp_path / "a", text), SealKeys(tmp_path / "b", text)
    assert first.signer.key_id == second.signer.key_id
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("text", ["", "no base64!", b64encode(bytes(31)).decode()])
def test_a_setting_that_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    """It says how to make one, and does not repeat what was given."""
    with pytest.raises(KeyUnusable, match="openssl rand") as told:
        SealKeys(tmp_path, text)
    assert not text or text not in str(told.value)


def test_a_signature_is_for_one_purpose(tmp_path: Path) -> None:
    """A statement cannot be passed off as a seal."""
    signer = Signer.new()
    trust = Trust([signer.public])
    signature = signer.sign(SEAL, b"body")
    assert trust.verifies(signer.key_id, SEAL, b"body", signature) is True
    assert trust.verifies(signer.key_id, STATEMENT, b"body", signature) is False
    assert trust.verifies(signer.key_id, SEAL, b"another", signature) is False
    assert trust.verifies("0" * 16, SEAL, b"body", signature) is None


def test_the_key_before_stays_believed_when_another_takes_its_place(tmp_path: Path) -> None:
    """Seals that it signed are still there."""
    ring = SealKeys(tmp_path)
    before, fresh = ring.signer, Signer.new()
    ring.keep(fresh)
    again = SealKeys(tmp_path)
    assert again.signer.key_id == fresh.key_id
    assert set(again.trust().keys) == {before.key_id, fresh.key_id}


def test_a_chain_of_keys_is_believed_from_its_first_on() -> None:
    """Each states the next; the order of the statements does not matter."""
    a, b, c = (Signer.new() for _ in range(3))
    trust = Trust([a.public])
    stated = Stated([state_key(c.public, b, NOW), state_key(b.public, a, NOW)], trust)
    assert stated.refused == []
    assert set(trust.keys) == {a.key_id, b.key_id, c.key_id}


def test_a_key_that_introduces_itself_is_not_believed() -> None:
    """Anybody can write a statement; only a believed key's counts."""
    mine, forged = Signer.new(), Signer.new()
    trust = Trust([mine.public])
    statement = state_key(forged.public, forged, NOW)
    assert Stated([statement], trust).refused == [statement]
    assert set(trust.keys) == {mine.key_id}


def test_a_key_that_was_rotated_out_states_nothing_any_more() -> None:
    """Neither other keys nor what retention removed; what it stated while it was in use holds."""
    old, new, evil = (Signer.new() for _ in range(3))
    later = NOW + timedelta(days=1)
    before = state_retention("t", "auth", NOW - timedelta(days=9), 9, 5, NOW, old)
    rotated = [state_key(new.public, old, NOW), state_end(old.key_id, NOW, new, NOW)]
    forged = [
        state_retention("t", "auth", later, 9, 99, later, old),
        state_key(evil.public, old, later),
    ]
    trust = Trust([old.public])
    stated = Stated([before, *forged, *rotated], trust)
    assert stated.rows("t", "audit.auth") == 5
    assert sorted(s.kind for s in stated.refused) == ["key", "retention"]
    assert evil.key_id not in trust.keys


def test_no_key_ends_its_successor() -> None:
    """Who has the old one could otherwise end the new one, dated back."""
    old, new = Signer.new(), Signer.new()
    early = NOW - timedelta(days=9)
    trust = Trust([old.public])
    Stated([state_key(new.public, old, NOW), state_end(new.key_id, early, old, early)], trust)
    assert trust.ended == {}


def test_retention_removes_nothing_that_is_not_there_yet() -> None:
    """A statement whose cutoff is in its own future is refused."""
    signer = Signer.new()
    foretold = state_retention("t", "auth", NOW + timedelta(hours=1), 1, 5, NOW, signer)
    stated = Stated([foretold], Trust([signer.public]))
    assert (stated.refused, stated.rows("t", "audit.auth")) == ([foretold], 0)


def test_until_when_a_key_was_in_use_is_kept_beside_the_keys(tmp_path: Path) -> None:
    """The earliest time holds."""
    ring = SealKeys(tmp_path)
    for days in (3, 1, 2):
        ring.end("0" * 16, NOW + timedelta(days=days))
    assert SealKeys(tmp_path).trust().ended == {"0" * 16: NOW + timedelta(days=1)}


def test_only_public_keys_of_ed25519_are_read() -> None:
    """Text goes there and back; anything else is refused."""
    signer = Signer.new()
    assert read_public(pem(signer.public)).public_bytes_raw() == signer.public.public_bytes_raw()
    with pytest.raises(KeyUnusable):
        read_public("-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----\n")


def test_the_public_key_of_the_next_setting_is_told_before_it_signs(tmp_path: Path) -> None:
    """So it can be introduced while the old one is the setting; the private one goes nowhere."""
    old, new = (b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    (tmp_path / "data").mkdir()
    before, after = (CommandLine(settings_env(tmp_path / "data", seal_key=setting)) for setting in (old, new))
    file, public = tmp_path / "new.key", tmp_path / "new-public.pem"
    file.write_text(f"{new}\n")
    public.write_text(before.run("seals", "key", "--of", str(file)).stdout)
    stated = before.json("seals", "introduce", str(public))
    assert stated["previous_key_id"] == before.json("seals", "key")["key_id"]
    assert after.json("seals", "key") == {"key_id": stated["key_id"], "public_key": public.read_text()}
    assert after.run("seals", "key").stdout == public.read_text()


def test_a_file_that_holds_no_key_is_told_without_its_content(tmp_path: Path) -> None:
    """A mistake is no reason to print a secret."""
    file = tmp_path / "new.key"
    file.write_text("s3cret")
    done = CommandLine(settings_env(tmp_path)).run("seals", "key", "--of", str(file))
    assert done.returncode == 1
    assert "32 bytes in base64" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
