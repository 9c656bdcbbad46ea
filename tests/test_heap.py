"""What keeps the worker's process small: each in a process of its own, for it changes the whole process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = """
from pathlib import Path
from store.database import Database
database = Database.embedded(Path({path!r}))
"""


def said(program: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_arrow_imports_no_pandas_and_whoever_asks_for_it_gets_it() -> None:
    """Arrow looks once, while there is none to be found; the import system is as it was."""
    program = """
import sys
finders = list(sys.meta_path)
import pyarrow as pa
from streams.heap import keep_heap_small
keep_heap_small()
pa.array(["a", None])
print("pandas" in sys.modules, sys.meta_path == finders)
import pandas
print(len(pandas.DataFrame({"n": [1, 2]})))
"""
    assert said(program) == ["False", "True", "2"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_code_that_only_the_start_needed_is_let_go(tmp_path: Path) -> None:
    """Most of what is resident of the engine's library goes, and the engine works as before."""
    program = ENGINE.format(path=str(tmp_path / "store")) + (
        "from bench.memory import status_mb\n"
        "from streams.heap import let_go_of_code\n"
        "before = status_mb('RssFile')\n"
        "let_go_of_code()\n"
        "after = status_mb('RssFile')\n"
        "[row] = database.query('SELECT sum(number) AS n FROM numbers(10)')\n"
        "print(before - after > 50, row['n'])\n"
        "database.close()\n"
    )
    assert said(program) == ["True", "45"]


def test_the_engine_gives_back_what_it_does_not_need(tmp_path: Path) -> None:
    """Its allocator has read for how long it may keep free pages, and its tables have granules of 2 MB."""
    program = ENGINE.format(path=str(tmp_path / "store")) + (
        "from store.engine import DECAY_MS\n"
        '[row] = database.query("SELECT value FROM system.merge_tree_settings '
        "WHERE name = 'index_granularity_bytes'\")\n"
        "stats = database.query_raw('SELECT * FROM system.jemalloc_stats', None, 'TSVRaw').decode()\n"
        "print(row['value'], f'arenas.dirty_decay_ms: {DECAY_MS})' in stats)\n"
        "database.close()\n"
    )
    assert said(program) == ["2097152", "True"]
