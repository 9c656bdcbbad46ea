"""``python -m tests.chaos``: see `make chaos`. Exit code 1: a guarantee did not hold."""

import argparse
import json
import sys
from pathlib import Path

from tenantwatch.logs import configure_logging
from tests.chaos.faults import choose
from tests.chaos.run import Setup, describe, run


def main() -> None:
    """Run and write the result."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mode", choices=("embedded", "cluster"), default="embedded")
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--per-round", type=int, default=4_000, help="events sent in each round")
    arguments.add_argument("--out", type=Path, default=Path("build/chaos.json"))
    arguments.add_argument("--folder", type=Path, default=Path("build/chaos"), help="data and logs")
    given = arguments.parse_args()
    configure_logging("warning", "console")
    setup = Setup(
        given.mode,
        choose(given.mode, given.rounds, given.seed),
        given.seed,
        given.folder / given.mode,
        per_round=given.per_round,
        say=lambda text: print(text, flush=True),
    )
    outcome = run(setup)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(outcome.as_json(), indent=2) + "\n")
    print(describe(outcome))
    sys.exit(0 if outcome.faultless else 1)


if __name__ == "__main__":
    main()
