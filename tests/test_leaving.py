"""A process whose work has ended does not stay because of what libraries left running in it."""

import subprocess
import sys
from textwrap import dedent

import pytest

STUBBORN = """\
    async def stubborn():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
"""
STUCK = """\
    async def stubborn():
        await asyncio.to_thread(threading.Event().wait)
"""


def ended(left_behind: str, end: str) -> subprocess.CompletedProcess[str]:
    program = f"""\
import asyncio, contextlib, threading
import tenantwatch.leaving as leaving
leaving.LEAVE_S = 0.3

async def main():
{left_behind}
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0.1)
    {end}

leaving.run(main())
"""
    return subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("left_behind", [STUBBORN, STUCK])
def test_what_is_left_behind_does_not_keep_the_process(left_behind: str) -> None:
    assert ended(left_behind, "return").returncode == 0


def test_an_error_is_told_although_something_is_left_behind() -> None:
    done = ended(STUBBORN, "raise RuntimeError('the disk is full')")
    assert done.returncode == 1
    assert "the disk is full" in done.stdout + done.stderr


def test_a_part_that_hangs_does_not_hold_up_the_stop() -> None:
    program = """\
import asyncio
from tenantwatch import up
from tenantwatch.settings import Settings
up.STOP_DEADLINE_S = 0.3

async def main():
    pipeline = up.Pipeline(Settings())
    pipeline._stack.push_async_callback(asyncio.Event().wait)
    await pipeline.stop()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "stop_timed_out" in done.stdout + done.stderr
