"""A benign month: tenants with offices, phones, batch jobs, holidays and seasons, and not one attack.

What it holds against the detectors, in the modules beside it: mornings at one address behind which hundreds
mistype, forgotten passwords and locked accounts, a company that changes all of them on a Monday and phones
that go on with the old one, hotels, carriers' addresses that tenants share, an office that gets another one,
new hires without rights, moves to other work, month's end in the books, an auditor's exports, a review of
rights, support that impersonates, a region's launch that doubles a tenant, nightly jobs that ask for what was
deleted, a planned load test, releases that change every duration, a change to daylight saving time, clocks
that are seconds off, and strangers on the internet who try a name or two.

What is left out, because an alert would be right: a service that goes on with an expired password every
minute, outages, requests beyond a limit, successful accesses to another tenant.

``python -m bench.benign --out FILE.ndjson.gz`` writes it; the same seed gives the same month.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from bench.benign_day import DAY_S, HOUR_S, Day, Event
from bench.benign_jobs import run_jobs
from bench.benign_people import work
from bench.benign_world import START, companies
from schemas.tenant import Tenant


def settings(tenants: int = 50, days: int = 28, seed: int = 1, largest: int = 500) -> dict[str, Tenant]:
    """Return the tenants' records of the directory.

    >>> sorted(settings(tenants=2))
    ['tenant-0', 'tenant-1']
    """
    everybody = companies(tenants, days, seed, largest)
    return {company.settings.tenant_id: company.settings for company in everybody}


def events(tenants: int = 50, days: int = 28, seed: int = 1, largest: int = 500) -> Iterator[bytes]:
    """Yield the month's events as lines of JSON, in order of time.

    Parameters
    ----------
    tenants, days, seed
        How many, how long, and what chance comes from.
    largest
        People of the largest tenant, before anybody is hired.

    >>> line = next(events(tenants=1, days=1))
    >>> json.loads(line)["tenant_id"]
    'tenant-0'
    """
    late: list[Event] = []
    number = 0
    everybody = companies(tenants, days, seed, largest)
    for day in range(days + 1):
        for company in everybody if day < days else ():
            one = Day(company, day, seed)
            work(one)
            run_jobs(one)
            late += one.events
        late.sort(key=lambda event: event[0])
        # A local day reaches 10 hours into the UTC day before it.
        until = (day + 1) * DAY_S - 12 * HOUR_S if day < days else float("inf")
        ready = next((i for i, event in enumerate(late) if event[0] >= until), len(late))
        for second, event in late[:ready]:
            time: datetime = START + timedelta(seconds=second)
            text = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            yield json.dumps({"event_id": f"b{seed}-{number}", "time": text, **event}).encode()
            number += 1
        del late[:ready]


def main() -> None:
    """Write the month to a file, compressed if its name ends in .gz, or to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = (line + b"\n" for line in events(given.tenants, given.days, given.seed))
    if given.out is None:
        sys.stdout.buffer.writelines(lines)
    elif given.out.suffix == ".gz":
        with gzip.open(given.out, "wb", compresslevel=1) as packed:
            packed.writelines(lines)
    else:
        with given.out.open("wb") as file:
            file.writelines(lines)


if __name__ == "__main__":
    main()
