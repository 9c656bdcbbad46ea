"""Files beside the store: whole or not there, whenever the power is cut."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.files import write_whole
from store.master_key import add_key, create_key_file, drop_earlier_keys
from store.seals.anchors import Anchor, AnchorBook
from store.seals.keys import SealKeys, Signer

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_file_that_is_there_gives_way_or_stays(tmp_path: Path) -> None:
    """Only its owner can read it, and nothing is left beside it."""
    path = tmp_path / "file"
    for content, replace in ((b"first", False), (b"second", False), (b"third", True)):
        write_whole(path, content, replace=replace)
        assert path.read_bytes() == (b"third" if replace else b"first")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [path]


def rotate(folder: Path) -> None:
    SealKeys(folder / "keys").keep(Signer.new())


def believe(folder: Path) -> None:
    ring = SealKeys(folder / "keys")
    ring.believe(ring.signer.public)


def end(folder: Path) -> None:
    SealKeys(folder / "keys").end("0" * 16, NOW)


def remember(folder: Path) -> None:
    AnchorBook(folder / "seals").remember([Anchor("cluster", 0, 1, "digest", NOW.isoformat())])


def add(folder: Path) -> None:
    add_key(folder / "master.key")


def drop(folder: Path) -> None:
    drop_earlier_keys(folder / "master.key")


@pytest.mark.parametrize("write", [rotate, believe, end, remember, add, drop])
def test_a_power_cut_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    """What is written in place, or moved there before the disk has it, is an empty file afterwards."""
    create_key_file(tmp_path / "master.key")
    believe(tmp_path)
    write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def cut(descriptor: int) -> None:
        raise OSError("the power is cut")

    with monkeypatch.context() as away:
        away.setattr("os.fsync", cut)
        with pytest.raises(OSError, match="power"):
            write(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    SealKeys(tmp_path / "keys").trust()
