"""What the detectors find, against the records of the design: ``python -m bench.detection --data DIR``.

``DIR/logins``, ``windows``, ``ssh`` and ``nab`` hold recorded and simulated attacks; benign traffic and costs
need none of them. What is not there is left out, and named. Writes ``build/detection.json``.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench import (
    detection_benign,
    detection_charts,
    detection_cost,
    detection_logins,
    detection_sshd,
    detection_windows,
    nab,
)
from bench.detection_tables import TABLES, rendered
from bench.detection_trials import BUDGETS
from bench.running import REPOSITORY, machine, save

Given = argparse.Namespace


def _budgets(given: Given) -> tuple[float, ...]:
    return BUDGETS if given.plots else ()


# Name to the folder of its data, if it needs any, and what measures it.
PARTS: Final[dict[str, tuple[str | None, Callable[[Path, Given], dict[str, Any]]]]] = {
    "logins": ("logins", lambda at, given: detection_logins.run(at, (1,), _budgets(given))),
    "slowed": ("logins", lambda at, given: detection_logins.run(at, (10, 100), _budgets(given))),
    "windows": ("windows", lambda at, _: detection_windows.run(at)),
    "sshd": ("ssh", lambda at, _: detection_sshd.run(at)),
    "nab": ("nab", lambda at, _: nab.run(at)),
    "benign": (
        None,
        lambda _, given: detection_benign.run(given.tenants, given.days, given.seed, _budgets(given)),
    ),
    "cost": (None, lambda _, given: detection_cost.run(given.users, given.seed)),
}


def measure(given: Given) -> dict[str, Any]:
    """Return what was found, by part; what could not be measured is under ``skipped``, with the reason."""
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in given.only:
        folder, run = PARTS[name]
        if folder and (given.data is None or not (given.data / folder).is_dir()):
            skipped[name] = f"there is no folder {folder} in --data"
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            result = run(given.data / folder if folder else Path(), given)
        except OSError as error:
            skipped[name] = str(error)
            continue
        if result:
            found[name] = result
        else:
            skipped[name] = f"{given.data / folder} holds no files of the layout that is read"
    tried = {"budgets": list(BUDGETS)} if given.plots else {}
    return {"machine": machine(), "skipped": skipped, **tried, **found}


def _names(text: str) -> list[str]:
    if unknown := set(names := text.split(",")) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; use some of {','.join(PARTS)}")
    return names


def main() -> None:
    """Measure, write the JSON, and print it or its tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, help="folder with logins, windows, ssh, nab")
    arguments.add_argument("--only", type=_names, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    arguments.add_argument("--tenants", type=int, default=50, help="of the benign month")
    arguments.add_argument("--days", type=int, default=28, help="of the benign month")
    arguments.add_argument(
        "--users", type=int, default=100_000, help="of the traffic that costs are measured on"
    )
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments.add_argument(
        "--plots", type=Path, help="folder for charts; tries other budgets, which takes longer"
    )
    arguments.add_argument("--out", type=Path, default=REPOSITORY / "build/detection.json")
    given = arguments.parse_args()
    result = measure(given)
    text = save(result, given.out)
    for path in detection_charts.draw(result, given.plots) if given.plots else ():
        print(f"drawn: {path}", file=sys.stderr)
    for name, why in result["skipped"].items():
        print(f"{name} was skipped: {why}", file=sys.stderr)
    if given.json:
        print(text)
        return
    for name in TABLES:
        # That one is not measured.
        if name != "parameters" and (table := rendered(name, result)):
            print(f"{name}\n\n{table}")


if __name__ == "__main__":
    main()
