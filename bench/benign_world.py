"""The people of the benign month: tenants, offices, users, service accounts, and where they are."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import exp, log
from typing import Final

import numpy as np

from schemas.tenant import PlannedTest, RateLimit, Tenant, Tier

# A Monday two weeks before Europe puts its clocks forward.
START: Final = datetime(2026, 3, 16, tzinfo=UTC)
DST_DAY: Final = 13
HOLIDAY: Final = 18
PASSWORD_DAY: Final = 14
LAUNCH_DAY: Final = 16
RESOURCE_TYPES: Final = ("job", "candidate", "invoice", "document", "report", "user", "webhook", "contract")
BROWSERS: Final = ("Chrome", "Firefox", "Safari", "Edge")
SYSTEMS: Final = ("Windows NT 10.0", "Macintosh", "X11; Linux x86_64", "iPhone", "Android 15")


@dataclass(slots=True)
class Person:
    """One user.

    Parameters
    ----------
    user_id, home, mobile, hour
        Name, address at home, whether their phone is their second place, and when they begin, local hours.
    sessions, clicks
        Sessions a day, and what they do in one, in the mean.
    types, browser, system
        What they work on, and with what.
    first_day, last_day
        When they came and left.
    """

    user_id: str
    home: str
    mobile: bool
    hour: float
    sessions: float
    clicks: float
    types: tuple[str, ...]
    browser: str
    system: str
    first_day: int = 0
    last_day: int = 10_000


@dataclass(slots=True)
class Company:
    """One tenant with its people.

    Parameters
    ----------
    settings
        As in the directory.
    number, utc_hours, european
        Its own, and its time zone.
    office, office_share
        The one address of its office, and how often people are there; None: everybody is elsewhere.
    mistypes, noise_a_day
        Share of logins that begin with a wrong password; guesses a day by strangers on the internet.
    resources, routes
        How many there are of each type; templates with their median duration in ms.
    batches
        What its nightly job reads.
    """

    settings: Tenant
    number: int
    utc_hours: int
    european: bool
    office: str | None
    office_share: float
    mistypes: float
    noise_a_day: float
    resources: int
    routes: list[tuple[str, float]]
    batches: int
    changes_passwords: bool
    launches: bool
    people: list[Person] = field(default_factory=list)

    def offset_hours(self, day: int) -> int:
        """Return by how many hours local time is ahead of UTC."""
        return self.utc_hours + (self.european and day >= DST_DAY)


def _person(rng: np.random.Generator, company: int, number: int, **fields: int) -> Person:
    mobile = bool(rng.random() < 0.3)
    types = tuple(rng.choice(RESOURCE_TYPES, size=int(rng.integers(2, 5)), replace=False).tolist())
    return Person(
        f"user-{company}-{number}",
        f"10.{company}.{number // 250}.{number % 250 + 1}",
        mobile,
        float(np.clip(rng.normal(8.6, 0.9), 6, 12)),
        float(rng.uniform(0.8, 2.5)),
        float(np.exp(rng.normal(2.4, 0.5))),
        types,
        str(rng.choice(BROWSERS)),
        str(rng.choice(SYSTEMS[3:] if mobile and rng.random() < 0.2 else SYSTEMS[:3])),
        **fields,
    )


def companies(count: int, days: int, seed: int) -> list[Company]:
    """Return tenants of 5 to 500 people, in all time zones."""
    rng = np.random.default_rng([seed, 1])
    found: list[Company] = []
    for number in range(count):
        size = round(exp(rng.uniform(log(5), log(500))))
        tier: Tier = "enterprise" if size > 150 else "standard" if size > 25 else "free"
        utc_hours = int(rng.integers(-8, 10))
        has_office = rng.random() < 0.7
        tenant_id = f"tenant-{number}"
        # One of them has agreed to a load test, and says so.
        tests = []
        if number % 25 == 7:
            begin, end = (f"2026-03-24T{hour}:00:00Z" for hour in ("09", "11"))
            test = {"start": begin, "end": end, "source_networks": ["203.0.113.0/28"], "note": "load test"}
            tests.append(PlannedTest.model_validate(test))
        company = Company(
            Tenant(
                tenant_id=tenant_id,
                organization_id=f"org-{number}",
                name=f"Company {number}",
                tier=tier,
                rate_limit=RateLimit(requests=3_000),
                planned_tests=tests,
            ),
            number,
            utc_hours,
            0 <= utc_hours <= 2,
            f"192.0.{number}.1" if has_office else None,
            float(rng.uniform(0.5, 0.95)) if has_office else 0.0,
            float(rng.uniform(0.01, 0.05)),
            float(rng.choice([0, 0, 0.5, 2])),
            int(rng.integers(200, 5_000)),
            [(f"/v1/{name}s/{{id}}", float(np.exp(rng.normal(3.5, 0.7)))) for name in RESOURCE_TYPES],
            int(rng.integers(100, 1_500)) if rng.random() < 0.6 else 0,
            changes_passwords=number % 5 == 2,
            launches=number % 25 == 11,
        )
        company.people = [_person(rng, number, i) for i in range(size)]
        for person in company.people:
            if rng.random() < 0.02:
                person.last_day = int(rng.integers(1, days + 1))
        # One or two in a hundred come each week; a launch brings as many as there are.
        hires = [7 * week for week in range(1, days // 7) for _ in range(rng.poisson(0.015 * size))]
        hires += [LAUNCH_DAY] * (size if company.launches else 0)
        for day in hires:
            person = _person(rng, number, len(company.people), first_day=day)
            if day == LAUNCH_DAY and company.launches:
                person.home = f"10.{100 + number}.0.{len(company.people) % 250 + 1}"
            company.people.append(person)
        found.append(company)
    return found
