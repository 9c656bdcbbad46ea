"""The people of the benign month: tenants, offices, users, service accounts, and where they are."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import exp, log
from typing import Final, Literal

import numpy as np

from schemas.tenant import PlannedTest, RateLimit, Tenant, Tier

# A Monday two weeks before Europe puts its clocks forward.
START: Final = datetime(2026, 3, 16, tzinfo=UTC)
DST_DAY: Final = 13
# Good Friday and Easter Monday.
HOLIDAYS: Final = (18, 21)
PASSWORD_DAY: Final = 14
LAUNCH_DAY: Final = 16
# The last of March and the first of April: who keeps books closes the month.
BOOKS_DAYS: Final = (15, 16)
REVIEW_DAY: Final = 23
AUDIT_DAY: Final = 10
OFFICE_MOVES_DAY: Final = 9
# When what a nightly job still asks for was deleted.
CLEAN_UP_DAY: Final = 11
# The agreed limit of tenants whose nightly job makes some 600 requests in a quarter of an hour.
JOB_LIMIT: Final = 1_000
RESOURCE_TYPES: Final = ("job", "candidate", "invoice", "document", "report", "user", "webhook", "contract")
BROWSERS: Final = ("Chrome", "Firefox", "Safari", "Edge")
SYSTEMS: Final = ("Windows NT 10.0", "Macintosh", "X11; Linux x86_64", "iPhone", "Android 15")
# Small companies that rent desks in one house share its address, tenants or not.
SHARED_HOUSE: Final = "192.1.255.1"
CARRIERS: Final = 8
SMALLEST: Final = 5
Role = Literal["staff", "admin", "support", "books"]


@dataclass(slots=True)
class Person:
    """One user.

    Parameters
    ----------
    number, user_id, role
        Their number in the company, their name, and what they may do.
    home, carrier
        Address at home; number of their phone's carrier, None: without a phone.
    hour, sessions, clicks
        When they begin, local hours; sessions a day, and what they do in one, in the mean.
    types, browser, system
        What they work on, and with what.
    first_day, last_day, moves_day
        When they come and leave, and when they move to other work.
    """

    number: int
    user_id: str
    role: Role
    home: str
    carrier: int | None
    hour: float
    sessions: float
    clicks: float
    types: tuple[str, ...]
    browser: str
    system: str
    first_day: int = 0
    last_day: int = 10_000
    moves_day: int = 10_000


@dataclass(slots=True)
class Company:
    """One tenant with its people.

    Parameters
    ----------
    settings, number
        As in the directory, and its own.
    utc_hours, european
        Its time zone.
    office, office_share
        The one address of its office, and how often people are there; None: everybody is elsewhere.
    single_sign_on
        Whether somebody else asks for passwords, so that fewer failures are seen here.
    mistypes, noise_a_day
        Share of logins that begin with a wrong password; strangers from the internet in a day.
    resources, batches
        How many there are of each type, and how many of them the nightly job reads.
    """

    settings: Tenant
    number: int
    utc_hours: int
    european: bool
    office: str | None
    office_share: float
    single_sign_on: bool
    mistypes: float
    noise_a_day: float
    resources: int
    batches: int
    people: list[Person] = field(default_factory=list)

    def offset_hours(self, day: int) -> int:
        """Return by how many hours local time is ahead of UTC."""
        return self.utc_hours + (self.european and day >= DST_DAY)

    @property
    def changes_passwords(self) -> bool:
        """Whether everybody has to, on `PASSWORD_DAY`."""
        return self.number % 5 == 2

    @property
    def launches(self) -> bool:
        """Whether a new region doubles it, on `LAUNCH_DAY`."""
        return self.number % 25 == 11

    @property
    def reviews_rights(self) -> bool:
        """Whether an admin goes through everybody's rights, on `REVIEW_DAY`."""
        return self.number % 10 == 4

    @property
    def is_audited(self) -> bool:
        """Whether somebody exports what the auditor asks for, on `AUDIT_DAY`."""
        return self.number % 10 == 6

    @property
    def cleans_up(self) -> bool:
        """Whether its nightly job asks for what was deleted, on `CLEAN_UP_DAY`."""
        return self.number % 10 == 3

    @property
    def moves_office(self) -> bool:
        """Whether the office gets another address, on `OFFICE_MOVES_DAY`."""
        return self.number % 12 == 5


def hash_of(text: str, number: int) -> int:
    """Return a number that depends on nothing else: Python's own hash differs from process to process."""
    value = number + 1
    for letter in text.encode():
        value = (value * 1_000_003 ^ letter) & 0xFFFF_FFFF
    return value


def address_of(person: Person, company: Company, day: int, rng: np.random.Generator) -> str:
    """Return where a person logs in from this time."""
    # A week of travel now and then, in another hotel each night.
    if hash_of(person.user_id, day // 7) % 50 == 0:
        return f"198.{18 + day % 2}.{hash_of(person.user_id, day) % 250}.9"
    if person.carrier is not None and rng.random() < 0.3:
        # Carriers put thousands behind few addresses, and one that was given stays for most of a day.
        block = hash_of(person.user_id, day // 7) % 4
        host = hash_of(person.user_id, day) % 250 if rng.random() < 0.8 else int(rng.integers(250))
        return f"100.{64 + person.carrier}.{block}.{host}"
    at_office = company.office is not None and day % 7 < 5 and rng.random() < company.office_share
    if at_office and company.launches and person.first_day == LAUNCH_DAY:
        return f"192.1.{company.number}.1"
    if at_office and company.moves_office and day >= OFFICE_MOVES_DAY:
        return f"192.2.{company.number}.1"
    if at_office and company.office:
        return company.office
    # With IPv6 the network is theirs, and the rest is new every day.
    return f"{person.home}{hash_of(person.user_id, day) & 0xFFFF:x}" if ":" in person.home else person.home


def _role(number: int, size: int) -> Role:
    if number % 60 == 0:
        return "admin"
    if size > 40 and number % 50 == 1:
        return "support"
    return "books" if number % 12 == 2 else "staff"


def _person(rng: np.random.Generator, company: int, number: int, size: int, first_day: int = 0) -> Person:
    mobile = bool(rng.random() < 0.3)
    role = _role(number, size)
    types = rng.choice(RESOURCE_TYPES, size=int(rng.integers(2, 5)), replace=False).tolist()
    types += [{"books": "invoice", "admin": "user", "support": "user"}.get(role, types[0])]
    v6 = rng.random() < 0.25
    return Person(
        number,
        f"user-{company}-{number}",
        role,
        f"2001:db8:{company:x}:{number:x}::" if v6 else f"10.{company}.{number // 250}.{number % 250 + 1}",
        int(rng.integers(CARRIERS)) if mobile else None,
        float(np.clip(rng.normal(8.6, 0.9), 6, 12)),
        float(rng.uniform(0.8, 2.5)),
        float(np.exp(rng.normal(2.2, 0.6))),
        tuple(dict.fromkeys(types)),
        str(rng.choice(BROWSERS)),
        str(rng.choice(SYSTEMS[3:] if mobile and rng.random() < 0.2 else SYSTEMS[:3])),
        first_day,
    )


def _settings(number: int, size: int, region: str, has_job: bool) -> Tenant:
    tier: Tier = "enterprise" if size > 150 else "standard" if size > 25 else "free"
    # One of them has agreed to a load test, and says so.
    tests = []
    if number % 25 == 7:
        begin, end = (f"2026-03-24T{hour}:00:00Z" for hour in ("09", "11"))
        test = {"start": begin, "end": end, "source_networks": ["203.0.113.0/28"], "note": "load test"}
        tests.append(PlannedTest.model_validate(test))
    return Tenant(
        tenant_id=f"tenant-{number}",
        organization_id=f"org-{number}",
        name=f"Company {number}",
        tier=tier,
        region=region,
        rate_limit=RateLimit(requests=JOB_LIMIT) if has_job else None,
        planned_tests=tests,
    )


def _first_days(rng: np.random.Generator, size: int, days: int, launches: bool) -> list[int]:
    """Return when people come: one or two in a hundred each week; a launch brings as many as there are."""
    first = [7 * week for week in range(1, days // 7) for _ in range(rng.poisson(0.015 * size))]
    return first + [LAUNCH_DAY] * (size if launches else 0)


def companies(count: int, days: int, seed: int, largest: int = 500) -> list[Company]:
    """Return tenants of 5 to 500 people, in all time zones; as many small ones as large ones.

    >>> sorted(len(company.people) for company in companies(count=4, days=7, seed=1, largest=20))
    [5, 7, 8, 18]
    """
    rng = np.random.default_rng([seed, 1])
    found: list[Company] = []
    for number in range(count):
        size = round(exp(rng.uniform(log(SMALLEST), log(largest))))
        utc_hours = int(rng.integers(-8, 10))
        region = "us" if utc_hours < -2 else "eu" if utc_hours < 4 else "ap"
        has_office = rng.random() < 0.7
        shared = size < 30 and rng.random() < 0.3
        batches = int(rng.integers(100, 1_500)) if rng.random() < 0.6 else 0
        company = Company(
            _settings(number, size, region, bool(batches)),
            number,
            utc_hours,
            0 <= utc_hours <= 2,
            (SHARED_HOUSE if shared else f"192.0.{number}.1") if has_office else None,
            float(rng.uniform(0.5, 0.95)) if has_office else 0.0,
            bool(rng.random() < 0.4),
            float(rng.uniform(0.01, 0.05)),
            float(rng.choice([0, 0, 0.5, 2])),
            int(rng.integers(200, 5_000)),
            batches,
        )
        company.people = [_person(rng, number, i, size) for i in range(size)]
        for person in company.people:
            if rng.random() < 0.02:
                person.last_day = int(rng.integers(1, days + 1))
            elif rng.random() < 0.02:
                person.moves_day = 7 * int(rng.integers(1, max(days // 7, 2)))
        for day in _first_days(rng, size, days, company.launches):
            person = _person(rng, number, len(company.people), size, day)
            if day == LAUNCH_DAY and company.launches:
                person.home = f"10.{100 + number}.0.{person.number % 250 + 1}"
            company.people.append(person)
        found.append(company)
    return found
