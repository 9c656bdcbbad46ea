"""A benign month: tenants with offices, phones, batch jobs, holidays and seasons, and not one attack.

What it holds against the detectors: mornings at one address behind which hundreds mistype, forgotten
passwords, a company that changes all of them on a Monday, people at hotels, new hires, a region's launch that
doubles a tenant, nightly jobs and monthly reports, a planned load test, a change to daylight saving time,
services whose clocks are seconds off, second factors denied by mistake, and strangers on the internet who try
a name or two. ``python -m bench.benign --out FILE.ndjson`` writes it; the same seed gives the same month.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.benign_world import HOLIDAY, LAUNCH_DAY, PASSWORD_DAY, START, Company, Person, companies
from schemas.tenant import Tenant

HOUR_S: Final = 3_600.0
DAY_S: Final = 24 * HOUR_S
ACTIONS: Final = ("read", "update", "create", "delete", "export")
ACTION_SHARES: Final = (0.82, 0.11, 0.05, 0.015, 0.005)
# Their clocks differ by so many seconds.
SKEW_S: Final = {"login": 0.0, "api": 0.4, "gateway": -1.7}
STRANGERS_NAMES: Final = ("admin", "root", "test", "info", "support", "administrator")
Event = tuple[float, dict[str, Any]]


class _Day:
    """One tenant's events of one day; times in seconds since the month's begin."""

    def __init__(self, company: Company, day: int, seed: int) -> None:
        self.company, self.day = company, day
        self.rng = np.random.default_rng([seed, 2, company.number, day])
        self.tenant_id = company.settings.tenant_id
        self.events: list[Event] = []

    def add(self, second: float, kind: str, service: str, **fields: Any) -> None:
        """Add an event, at its service's own idea of the time."""
        event = {"kind": kind, "tenant_id": self.tenant_id, "service": service, **fields}
        self.events.append((second + SKEW_S[service], event))

    def at(self, local_hour: float) -> float:
        """Return when a local hour of this day is."""
        return self.day * DAY_S + (local_hour - self.company.offset_hours(self.day)) * HOUR_S

    def run(self) -> list[Event]:
        """Return the day's events."""
        weekday = self.day % 7
        busy = 0.06 if weekday >= 5 else 0.1 if self.day == HOLIDAY else 0.9 if weekday != 4 else 0.8
        for person in self.company.people:
            if person.first_day <= self.day <= person.last_day and self.rng.random() < busy:
                self._work(person)
        self._jobs()
        self._strangers()
        for test in self.company.settings.planned_tests:
            if test.start.date() == (START + timedelta(days=self.day)).date():
                self._load_test((test.start - START).total_seconds())
        return self.events

    def _place(self, person: Person) -> str:
        rng, company = self.rng, self.company
        # A week of travel now and then, in another network each night.
        if hash_of(person.user_id, self.day // 7) % 50 == 0:
            return f"198.{18 + self.day % 2}.{hash_of(person.user_id, self.day) % 250}.9"
        if person.mobile and rng.random() < 0.3:
            return f"100.{64 + rng.integers(0, 40)}.{rng.integers(0, 250)}.{rng.integers(1, 250)}"
        at_office = company.office is not None and self.day % 7 < 5 and rng.random() < company.office_share
        if at_office and person.first_day == LAUNCH_DAY and company.launches:
            return f"192.1.{company.number}.1"
        return company.office if at_office and company.office else person.home

    def _work(self, person: Person) -> None:
        rng = self.rng
        for session in range(1 + rng.poisson(max(person.sessions - 1, 0.0))):
            hour = (
                person.hour + rng.normal(0, 0.4)
                if session == 0
                else rng.uniform(person.hour, person.hour + 10)
            )
            address = self._place(person)
            # Browsers update themselves every three weeks or so.
            version = 120 + (self.day + hash_of(person.user_id, 0) % 21) // 21
            agent = f"Mozilla/5.0 ({person.system}) {person.browser}/{version}.0"
            who = {"user_id": person.user_id, "source_ip": address, "user_agent": agent}
            second = self._log_in(person, self.at(hour), who, first=session == 0)
            if second is not None:
                self._click(person, second, who)

    def _log_in(self, person: Person, second: float, who: dict[str, Any], *, first: bool) -> float | None:
        """Add a login with what goes wrong before it; return when it succeeded."""
        rng, company = self.rng, self.company
        login = {"action": "login", "auth_method": "password", **who}
        chance = company.mistypes * (1.5 if self.day % 7 == 0 else 1.0)
        changed = company.changes_passwords and self.day == PASSWORD_DAY and first
        wrong = int(rng.geometric(0.7)) if rng.random() < (0.6 if changed else chance) else 0
        forgotten = rng.random() < 0.001
        if forgotten:
            wrong = int(rng.integers(3, 7))
        for _ in range(wrong):
            reason = "unknown_user" if rng.random() < 0.1 else "bad_password"
            name = person.user_id + "x" if reason == "unknown_user" else person.user_id
            self.add(second, "auth", "login", **{**login, "user_id": name}, outcome="failure", reason=reason)
            second += float(rng.uniform(5, 30))
        if forgotten and rng.random() < 0.3:
            return None
        if rng.random() < 0.01:
            mfa = {**login, "action": "mfa", "auth_method": "mfa"}
            self.add(second, "auth", "login", **mfa, outcome="failure", reason="mfa_denied")
            second += 20.0
        self.add(second, "auth", "login", **login, outcome="success", reason=None)
        return second

    def _click(self, person: Person, second: float, who: dict[str, Any]) -> None:
        rng, company = self.rng, self.company
        n = 1 + int(rng.poisson(person.clicks * rng.gamma(4, 0.25)))
        times = second + 2 + np.cumsum(rng.exponential(25, n))
        actions = rng.choice(ACTIONS, n, p=ACTION_SHARES).tolist()
        kinds = rng.choice(person.types, n).tolist()
        ids = (rng.pareto(1.2, n) * 10).astype(np.int64) % company.resources
        luck = rng.random(n)
        for time, action, kind, number, chance in zip(
            times.tolist(), actions, kinds, ids.tolist(), luck, strict=True
        ):
            reason = "missing_permission" if chance < 0.003 else "not_found" if chance < 0.006 else None
            outcome = "failure" if reason else "success"
            self.add(
                time,
                "access",
                "api",
                action=action,
                permission=f"{kind}s:{action}",
                resource_type=kind,
                resource_id=f"{kind}-{number}",
                record_count=int(rng.integers(1, 200)) if action == "export" else 1,
                outcome=outcome,
                reason=reason,
                **who,
            )
            self._request(
                time, kind, {"missing_permission": 403, "not_found": 404}.get(reason or "", 200), who
            )

    def _request(
        self, second: float, kind: str, status: int, who: dict[str, Any], factor: float = 1.0
    ) -> None:
        rng = self.rng
        route, median_ms = next(route for route in self.company.routes if f"/{kind}s/" in route[0])
        if status == 200 and rng.random() < 0.002:
            status = 500
        self.add(
            second,
            "request",
            "gateway",
            http_method="GET",
            http_route=route,
            http_path=route.replace("{id}", "17"),
            http_status=status,
            duration_ms=round(float(median_ms * factor * np.exp(rng.normal(0, 0.5))), 1),
            outcome="failure" if status >= 400 else "success",
            **who,
        )

    def _jobs(self) -> None:
        """Add the nightly job, three times as long on the month's first, and an integration that polls."""
        rng, company = self.rng, self.company
        if not company.batches:
            return
        month_end = (START + timedelta(days=self.day)).day == 1
        who = {
            "user_id": "svc-reports",
            "source_ip": f"10.{company.number}.255.1",
            "user_agent": "reports/2.3",
        }
        login = {"action": "token_issue", "auth_method": "oauth2", "outcome": "success", "reason": None}
        begin = self.at(2.0 + rng.uniform(0, 0.1))
        self.add(begin, "auth", "login", **login, **who)
        n = int(company.batches * rng.uniform(0.9, 1.1) * (3 if month_end else 1))
        for i, gap in enumerate(np.cumsum(rng.exponential(1.5, n)).tolist()):
            kind = RESOURCES[i % 3]
            self.add(
                begin + 1 + gap,
                "access",
                "api",
                action="export" if i % 10 == 9 else "read",
                permission=f"{kind}s:read",
                resource_type=kind,
                resource_id=f"{kind}-{i}",
                record_count=500 if i % 10 == 9 else 1,
                outcome="success",
                reason=None,
                **who,
            )
        poller = {
            "user_id": None,
            "source_ip": who["source_ip"],
            "user_agent": "sync/1.0",
            "api_key_id": "key-sync",
        }
        for minute in range(0, 1_440, 5):
            self._request(self.day * DAY_S + 60 * minute + float(rng.uniform(0, 5)), "job", 200, poller)

    def _strangers(self) -> None:
        rng = self.rng
        for _ in range(rng.poisson(self.company.noise_a_day)):
            second = self.day * DAY_S + float(rng.uniform(0, DAY_S))
            address = (
                f"{rng.integers(11, 99)}.{rng.integers(0, 255)}.{rng.integers(0, 255)}.{rng.integers(1, 255)}"
            )
            for _ in range(int(rng.integers(1, 3))):
                name = str(rng.choice(STRANGERS_NAMES))
                self.add(
                    second,
                    "auth",
                    "login",
                    action="login",
                    auth_method="password",
                    user_id=name,
                    source_ip=address,
                    user_agent="python-requests/2.31",
                    outcome="failure",
                    reason="unknown_user",
                )
                second += float(rng.uniform(1, 4))

    def _load_test(self, begin: float) -> None:
        who = {"user_id": None, "source_ip": "203.0.113.5", "user_agent": "k6/0.50", "api_key_id": "key-test"}
        for i in range(20_000):
            self._request(begin + 0.3 * i, "job", 200, who, factor=1.5)


RESOURCES: Final = ("invoice", "report", "document")


def hash_of(text: str, number: int) -> int:
    """Return a number that depends on nothing else: Python's own hash differs from process to process."""
    value = number + 1
    for letter in text.encode():
        value = (value * 1_000_003 ^ letter) & 0xFFFF_FFFF
    return value


def settings(tenants: int = 50, days: int = 28, seed: int = 1) -> dict[str, Tenant]:
    """Return the tenants' records of the directory."""
    return {company.settings.tenant_id: company.settings for company in companies(tenants, days, seed)}


def events(tenants: int = 50, days: int = 28, seed: int = 1) -> Iterator[bytes]:
    """Yield the month's events as lines of JSON, in order of time."""
    late: list[Event] = []
    number = 0
    everybody = companies(tenants, days, seed)
    for day in range(days + 1):
        for company in everybody if day < days else ():
            late += _Day(company, day, seed).run()
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
    """Write the month to a file, or to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out.open("wb") if given.out else sys.stdout.buffer
    with out:
        out.writelines(line + b"\n" for line in events(given.tenants, given.days, given.seed))


if __name__ == "__main__":
    main()
