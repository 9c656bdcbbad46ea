"""The engine's threads let Python's go first."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from streams import priority

ROOT = Path(__file__).resolve().parent.parent
# In a process of its own, for it changes the whole process. Prints how much nicer than the process its
# threads are: Python's, and those that the engine names for its merges and other work of its own.
PROGRAM = """
import os
os.nice({nice})
import asyncio, threading
from pathlib import Path
from store.database import Database
from streams.priority import give_way

database = Database.embedded(Path({path!r}))

def print_niceness():
    ours = {{thread.native_id for thread in threading.enumerate()}}
    python, engine = set(), set()
    for task in Path("/proc/self/task").iterdir():
        nicer = os.getpriority(os.PRIO_PROCESS, int(task.name)) - {nice}
        if int(task.name) in ours:
            python.add(nicer)
        elif (task / "comm").read_text().strip() in ("MergeMutate", "BgSchPool"):
            engine.add(nicer)
    print(python, engine)

async def main():
    await asyncio.to_thread(database.query, "SELECT 1")
    known = give_way(set())
    print_niceness()
    give_way(known)
    print_niceness()
    print(await asyncio.to_thread(database.query, "SELECT sum(number) AS n FROM numbers(10)"))

asyncio.run(main())
database.close()
"""


def said(path: Path, nice: int) -> list[str]:
    program = PROGRAM.format(path=str(path / "store"), nice=nice)
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority each on Linux only")
@pytest.mark.parametrize(("nice", "nicer"), [(0, 10), (15, 4)])
def test_the_engine_s_threads_give_way_and_python_s_do_not(tmp_path: Path, nice: int, nicer: int) -> None:
    """From the second look on, and no further than there is room in a process that is nice itself."""
    assert said(tmp_path, nice) == ["{0} {0}", f"{{0}} {{{nicer}}}", "[{'n': 45}]"]


def test_a_system_that_forbids_it_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on without."""

    def forbidden(known: set[int]) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(priority, "give_way", forbidden)
    asyncio.run(asyncio.wait_for(priority.engine_gives_way(), 5))
