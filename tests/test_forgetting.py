"""A hundred people are forgotten: nothing of them is left, here or in a later backup, and the trail holds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.forgetting import FORGOTTEN, PEOPLE, ROUNDS, address, originals

EVENTS = 3 * ROUNDS * PEOPLE


def seen(what: str, root: Path) -> Any:
    """Run a step in a process of its own, and return what it saw."""
    command = [sys.executable, "-m", "tests.forgetting", what, str(root)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forgetting")


@pytest.fixture(scope="module")
def forgotten(root: Path) -> Any:
    found = seen("forget", root)
    (root / "forgotten.json").write_text(json.dumps(found))
    return found


@pytest.fixture(scope="module")
def restored(forgotten: Any, root: Path) -> Any:
    return seen("restore", root)


def test_the_trail_holds_after_a_hundred_people_were_forgotten(forgotten: Any) -> None:
    """Every row is what was sealed; all that is said is that some speak of people who were forgotten."""
    assert (forgotten["holds"], forgotten["rows"]) == (True, EVENTS)
    assert forgotten["findings"] == ["shredded"]
    assert forgotten["rows_of_forgotten"] == forgotten["speaking"] == EVENTS * FORGOTTEN // PEOPLE


def test_nothing_of_them_is_left_in_the_store_or_in_a_later_backup(forgotten: Any) -> None:
    """As bytes of files, in what the tables say, in the backup's files once unpacked; reasons included.

    An address, a full name and a number are three originals, and each was exported and revealed before, by
    the original; what they were encrypted to is searched for, too.
    """
    assert forgotten["people"] == 3 * PEOPLE
    assert [found[0] for found in forgotten["looked_up"]] == [[said] for said in originals(0)]
    assert [said in found[1] for said, found in zip(originals(0), forgotten["looked_up"], strict=True)] == [
        True,
        True,
        True,
    ]
    assert forgotten["before"] == [True, ["vault"]]
    assert forgotten["removed"] == {"vault": 3 * FORGOTTEN}
    assert forgotten["originals"] == [[], [], []]
    in_store, tables, in_backup = forgotten["of_others"]
    assert (in_store, tables, len(in_backup)) == (True, ["vault"], 1)
    tables, files = forgotten["control"]
    assert {"privacy_log", "legal_holds"} <= set(tables)
    assert files != []


def test_a_restored_backup_holds_and_knows_nothing_of_them(restored: Any) -> None:
    """Its seals are those of the store that it was made of."""
    assert (restored["holds"], restored["rows"]) == (True, EVENTS)
    assert restored["findings"] == ["shredded"]
    assert restored["originals"] == [[], []]


def test_who_was_not_forgotten_can_be_revealed_before_and_after_a_restore(
    forgotten: Any, restored: Any
) -> None:
    """The others in no place."""
    other = [address(FORGOTTEN)]
    assert forgotten["revealed"] == [[address(0)], other]
    assert forgotten["revealed_after"] == [[], other]
    assert restored["revealed"] == [[], other]
