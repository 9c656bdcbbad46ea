"""A backtest for the API, in a process of its own: the command line's, so that the API goes on serving."""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from api.v1.backtesting import TIME_LIMIT_S, BacktestFailed
from streams.priority import go_as_usual

MAX_OUTPUT_BYTES: Final = 32 * 1024 * 1024


async def run_backtest(tenant_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run `tenantwatch backtest` over a tenant's stored events and return what it printed.

    Parameters
    ----------
    request
        ``from``, ``to``, and ``detectors`` to try.

    Raises
    ------
    BacktestFailed
        If it ends with an error, takes longer than a quarter of an hour, or finds too much.
    """
    tried = [
        f"{detector}.{name}={json.dumps(value)}"
        for detector, values in request["detectors"].items()
        for name, value in values.items()
    ]
    options = [
        f"--{name}={value}"
        for name, value in (("tenant", tenant_id), ("from", request["from"]), ("to", request["to"]))
    ]
    options += [f"--set={each}" for each in tried]
    options += ["--compare"] if tried else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tenantwatch.cli",
        "backtest",
        *options,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    go_as_usual(process.pid)
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        raise BacktestFailed(f"it took longer than {TIME_LIMIT_S:.0f} s: choose a shorter time") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BacktestFailed(errors.decode(errors="replace").strip()[-500:] or "it ended with an error")
    if len(output) > MAX_OUTPUT_BYTES:
        raise BacktestFailed("it found too much to keep: choose a shorter time")
    if tried:
        compared: dict[str, Any] = json.loads(output)
        return compared
    return {"alerts": [json.loads(line) for line in output.splitlines()]}
