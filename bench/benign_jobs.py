"""What machines do in the benign month: jobs, integrations, a launch, a load test, the internet's noise."""

from datetime import timedelta
from typing import Any, Final

import numpy as np

from bench.benign_day import DAY_S, Day
from bench.benign_world import CLEAN_UP_DAY, LAUNCH_DAY, START

JOB_TYPES: Final = ("invoice", "report", "document")
STRANGERS_NAMES: Final = ("admin", "root", "test", "info", "support", "administrator")
# Sundays at 03:00 UTC the integration's machine gets its updates.
REBOOT_MINUTES: Final = range(180, 205)
LOAD_TEST_REQUESTS, LOAD_TEST_GAP_S = 20_000, 0.3


def run_jobs(day: Day) -> None:
    """Add what machines do."""
    if day.company.batches:
        _nightly(day)
        _poll(day)
    if day.company.launches and day.day == LAUNCH_DAY:
        _launch(day)
    _strangers(day)
    for test in day.company.settings.planned_tests:
        if test.start.date() == (START + timedelta(days=day.day)).date():
            _load_test(day, (test.start - START).total_seconds() + 5)


def _service(day: Day, name: str, agent: str) -> dict[str, Any]:
    return {"user_id": name, "source_ip": f"10.{day.company.number}.255.1", "user_agent": agent}


def _nightly(day: Day) -> None:
    """Add the nightly job, three times as long on the month's first, and full of 404s after a clean-up."""
    rng, company = day.rng, day.company
    month_begins = (START + timedelta(days=day.day)).day == 1
    who = _service(day, "svc-reports", "reports/2.3")
    begin = day.at(2.0 + rng.uniform(0, 0.1))
    day.sign_in(begin, who, "token_issue", auth_method="oauth2")
    n = int(company.batches * rng.uniform(0.9, 1.1) * (3 if month_begins else 1))
    missing = 0.4 if company.cleans_up and day.day == CLEAN_UP_DAY else 0.005
    for i, gap in enumerate(np.cumsum(rng.exponential(1.5, n)).tolist()):
        export = i % 10 == 9
        kind = JOB_TYPES[i % 3]
        day.access(
            begin + 1 + gap,
            who,
            "export" if export else "read",
            kind,
            resource_id=f"{kind}-{i}",
            record_count=500 if export else 1,
            reason="not_found" if rng.random() < missing else None,
        )


def _poll(day: Day) -> None:
    """Add an integration with a key, every five minutes."""
    who = {**_service(day, "", "sync/1.0"), "user_id": None, "api_key_id": "key-sync"}
    for minute in range(0, 1_440, 5):
        if day.day % 7 != 6 or minute not in REBOOT_MINUTES:
            second = day.day * DAY_S + 60 * minute + float(day.rng.uniform(0, 5))
            day.request(second, who, "job", "read")


def _launch(day: Day) -> None:
    """Add the accounts of a new region: made, and given their rights, by a service in the night before."""
    who, second = _service(day, "svc-provisioning", "scim/1.1"), day.at(1.0)
    day.sign_in(second, who, "token_issue", auth_method="oauth2")
    for person in day.company.people:
        if person.first_day == LAUNCH_DAY:
            for action in ("create", "grant"):
                second += 2 + float(day.rng.exponential(4))
                day.access(second, who, action, "user", resource_id=person.user_id)


def _strangers(day: Day) -> None:
    """Add the guesses of passers-by on the internet."""
    rng = day.rng
    for _ in range(rng.poisson(day.company.noise_a_day)):
        second = day.day * DAY_S + float(rng.uniform(0, DAY_S))
        parts = rng.integers((11, 0, 0, 1), (99, 255, 255, 255)).tolist()
        who = {"source_ip": ".".join(map(str, parts)), "user_agent": "python-requests/2.31"}
        for _ in range(int(rng.integers(1, 3))):
            name = STRANGERS_NAMES[int(rng.integers(len(STRANGERS_NAMES)))]
            day.sign_in(second, {**who, "user_id": name}, auth_method="password", reason="unknown_user")
            second += float(rng.uniform(1, 4))


def _load_test(day: Day, begin: float) -> None:
    who = {"user_id": None, "source_ip": "203.0.113.5", "user_agent": "k6/0.50", "api_key_id": "key-test"}
    for i in range(LOAD_TEST_REQUESTS):
        day.request(begin + LOAD_TEST_GAP_S * i, who, "job", "read", slower=1.5)
