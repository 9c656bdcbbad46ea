"""What people do in the benign month: they log in with what goes wrong before it, and work."""

from typing import Any, Final

import numpy as np

from bench.benign_day import HOUR_S, Day
from bench.benign_world import (
    AUDIT_DAY,
    BOOKS_DAYS,
    HOLIDAYS,
    PASSWORD_DAY,
    RESOURCE_TYPES,
    REVIEW_DAY,
    Person,
    address_of,
    hash_of,
)

ACTIONS: Final = ("read", "update", "create", "delete", "export")
ACTION_SHARES: Final = (0.82, 0.11, 0.05, 0.015, 0.005)
BOOKS_SHARES: Final = (0.75, 0.08, 0.05, 0.01, 0.11)
# Whoever is in a hurry stays below the lowest limit of a quarter of an hour, with what else they do in it.
HURRIED_CLICKS, HURRIED_GAP_S, GAP_S = 45, 7.0, 25.0
LOCKED_AFTER: Final = 5


def work(day: Day) -> None:
    """Add what a company's people do."""
    weekday = day.day % 7
    busy = 0.06 if weekday >= 5 else 0.1 if day.day in HOLIDAYS else 0.8 if weekday == 4 else 0.9
    for person in day.company.people:
        employed = person.first_day <= day.day <= person.last_day
        if employed and (day.rng.random() < busy or person.first_day == day.day):
            _day_of(day, person)
    _administer(day)


def _who(day: Day, person: Person) -> dict[str, Any]:
    # Browsers update themselves every three weeks or so.
    version = 120 + (day.day + hash_of(person.user_id, 0) % 21) // 21
    return {
        "user_id": person.user_id,
        "source_ip": address_of(person, day.company, day.day, day.rng),
        "user_agent": f"Mozilla/5.0 ({person.system}) {person.browser}/{version}.0",
    }


def _day_of(day: Day, person: Person) -> None:
    rng = day.rng
    for session in range(1 + rng.poisson(max(person.sessions - 1, 0.0))):
        hour = (
            person.hour + rng.normal(0, 0.4) if session == 0 else rng.uniform(person.hour, person.hour + 10)
        )
        who = _who(day, person)
        second = _log_in(day, person, day.at(hour), who, first=session == 0)
        if second is None:
            continue
        if session == 0 and person.first_day == day.day > 0 and rng.random() < 0.3:
            _not_yet_allowed(day, person, second, who)
        end = _click(day, person, second, who, hurried=session == 0 and rng.random() < 0.05)
        for refreshed in np.arange(second + HOUR_S / 2, end, HOUR_S / 2).tolist():
            day.sign_in(refreshed, who, "token_refresh", auth_method="oauth2")
        if rng.random() < 0.4:
            day.sign_in(end + 5, who, "logout")


def _log_in(day: Day, person: Person, second: float, who: dict[str, Any], *, first: bool) -> float | None:
    """Add a login with what goes wrong before it; return when it succeeded."""
    rng, company = day.rng, day.company
    after_rest = 2.0 if day.day - 1 in HOLIDAYS else 1.5 if day.day % 7 == 0 else 1.0
    chance = company.mistypes * after_rest * (0.3 if company.single_sign_on else 1.0)
    changed = company.changes_passwords and day.day == PASSWORD_DAY and first
    wrong = int(rng.geometric(0.7)) if rng.random() < (0.6 if changed else chance) else 0
    forgotten = rng.random() < 0.001
    if forgotten:
        wrong = int(rng.integers(3, 8))
    for attempt in range(wrong):
        reason = "unknown_user" if rng.random() < 0.1 else "bad_password"
        name = person.user_id + "x" if reason == "unknown_user" else person.user_id
        reason = "locked" if attempt >= LOCKED_AFTER else reason
        day.sign_in(second, {**who, "user_id": name}, reason=reason)
        second += float(rng.uniform(5, 30))
    if forgotten and rng.random() < 0.3:
        return None
    if forgotten:
        second += float(rng.uniform(60, 600))
        day.sign_in(second - 20, who, "password_change")
    if person.carrier is not None and (changed or forgotten) and rng.random() < 0.2:
        _phone_tries_old_password(day, person, second)
    # Fingers slip, and now and then a phone asks again because the first answer got lost.
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.01 else 0):
        day.sign_in(second, who, "mfa", auth_method="mfa", reason="mfa_denied")
        second += 20.0
    day.sign_in(second, who)
    return second


def _phone_tries_old_password(day: Day, person: Person, second: float) -> None:
    phone = {
        "user_id": person.user_id,
        "source_ip": f"100.{64 + (person.carrier or 0)}.{hash_of(person.user_id, day.day // 7) % 4}.7",
        "user_agent": "Mail/9.1 (iPhone)",
    }
    times = second + np.cumsum(day.rng.uniform(600, 1_500, int(day.rng.integers(3, 13))))
    for time in times.tolist():
        day.sign_in(time, phone, auth_method="password", reason="bad_password")


def _types(day: Day, person: Person) -> tuple[str, ...]:
    """Return what somebody works on: something else after a move, and a colleague's part now and then."""
    if day.day >= person.moves_day:
        return tuple(RESOURCE_TYPES[hash_of(person.user_id, i) % len(RESOURCE_TYPES)] for i in range(3))
    stands_in = hash_of(person.user_id + "s", day.day // 7) % 30 == 0
    return (*person.types, RESOURCE_TYPES[hash_of(person.user_id, 9) % 8]) if stands_in else person.types


def _click(day: Day, person: Person, second: float, who: dict[str, Any], *, hurried: bool) -> float:
    """Add a session's accesses; return when it ends."""
    rng, company = day.rng, day.company
    books = person.role == "books" and day.day in BOOKS_DAYS
    n = 1 + int(rng.poisson(person.clicks * rng.gamma(4, 0.25) * (2.5 if books else 1.0)))
    n = HURRIED_CLICKS if hurried else n
    times = second + 2 + np.cumsum(rng.exponential(HURRIED_GAP_S if hurried else GAP_S, n))
    shares = np.cumsum(BOOKS_SHARES if books else ACTION_SHARES)
    actions = np.minimum(np.searchsorted(shares, rng.random(n)), len(ACTIONS) - 1).tolist()
    types = _types(day, person)
    # Most look at what everybody looks at; one in five goes through a list from top to bottom.
    ids = (rng.pareto(1.2, n) * 10).astype(np.int64)
    if rng.random() < 0.2:
        ids, types = int(rng.integers(company.resources)) + np.arange(n), types[:1]
    kinds = rng.integers(len(types), size=n).tolist()
    luck = rng.random(n).tolist()
    records = np.exp(rng.normal(4, 1, n)).astype(np.int64).tolist()
    for i, time in enumerate(times.tolist()):
        action, kind = ACTIONS[actions[i]], types[kinds[i]]
        reason = "missing_permission" if luck[i] < 0.003 else "not_found" if luck[i] < 0.006 else None
        number = int(ids[i]) % company.resources
        fields: dict[str, Any] = {"resource_id": f"{kind}-{number}", "reason": reason}
        if luck[i] > 0.9999:
            # A colleague's link that belongs to another company.
            fields |= {"reason": "wrong_tenant", "resource_tenant_id": f"tenant-{company.number + 1}"}
        if action == "export":
            fields["record_count"] = records[i]
        day.access(time, who, action, kind, **fields)
    return float(times[-1])


def _not_yet_allowed(day: Day, person: Person, second: float, who: dict[str, Any]) -> None:
    """Add what happens to a new colleague whose rights come an hour late."""
    gaps = np.cumsum(day.rng.uniform(10, 120, int(day.rng.integers(3, 9))))
    for i, gap in enumerate(gaps.tolist()):
        kind = person.types[i % 2]
        day.access(second + gap, who, "read", kind, resource_id=f"{kind}-{i}", reason="missing_permission")


def _administer(day: Day) -> None:
    """Add rights given, taken, reviewed; support's looks through customers' eyes; an auditor's exports."""
    company, rng = day.company, day.rng
    admin, *_ = company.people
    who = _who(day, admin)
    changes = [(p, "grant") for p in company.people if p.first_day == day.day > 0 for _ in range(2)]
    # A launch's hundreds are a service's work (`benign_jobs`).
    changes = changes if len(changes) < 100 else []
    changes += [(p, "grant") for p in company.people if p.moves_day == day.day]
    changes += [(p, "revoke") for p in company.people if p.last_day == day.day]
    if company.reviews_rights and day.day == REVIEW_DAY:
        chosen = rng.permutation(len(company.people))[:40].tolist()
        changes += [(company.people[i], "revoke" if rng.random() < 0.8 else "grant") for i in chosen]
    second = day.at(9.5 + float(rng.normal(0, 0.5)))
    for person, action in changes:
        day.access(second, who, action, "user", resource_id=person.user_id)
        second += float(rng.exponential(40)) + 5
    for person in company.people:
        if person.role == "support" and day.day % 7 < 5 and person.first_day <= day.day <= person.last_day:
            _support(day, person)
        if person.number == 2 and company.is_audited and day.day == AUDIT_DAY:
            _audit(day, person)


def _support(day: Day, person: Person) -> None:
    who = _who(day, person)
    for _ in range(day.rng.poisson(1.2)):
        second = day.at(float(day.rng.uniform(9, 17)))
        helped = int(day.rng.integers(len(day.company.people)))
        day.access(second, who, "impersonate", "user", resource_id=f"user-{day.company.number}-{helped}")
        for i in range(int(day.rng.integers(2, 8))):
            day.access(second + 20 * (i + 1), who, "read", "job", resource_id=f"job-{helped + i}")


def _audit(day: Day, person: Person) -> None:
    who, second = _who(day, person), day.at(14.0)
    for i in range(int(day.rng.integers(25, 60))):
        records = int(np.exp(day.rng.normal(6, 1)))
        day.access(second, who, "export", "invoice", resource_id=f"invoice-{i}", record_count=records)
        second += 10 + float(day.rng.exponential(40))
