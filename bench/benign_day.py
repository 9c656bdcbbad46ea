"""One tenant's day of the benign month: where its events are put together, and how long requests take."""

from typing import Any, Final

import numpy as np

from bench.benign_world import RESOURCE_TYPES, Company
from schemas.batch import Floats

HOUR_S: Final = 3_600.0
DAY_S: Final = 24 * HOUR_S
# Their clocks differ by so many seconds.
SKEW_S: Final = {"login": 0.0, "api": 0.4, "gateway": -1.7}
METHODS: Final = {"read": "GET", "create": "POST", "update": "PATCH", "delete": "DELETE"}
STATUSES: Final = {None: 200, "missing_permission": 403, "not_found": 404, "wrong_tenant": 403}
# Releases on Tuesdays and Thursdays at 13:00 UTC change every route a little; caches are cold for 2 min.
RELEASE_WEEKDAYS: Final = (1, 3)
RELEASE_S, COLD_S = 13 * HOUR_S, 120.0
BACKUP_S: Final = (1.5 * HOUR_S, 1.75 * HOUR_S)
Event = tuple[float, dict[str, Any]]


class Day:
    """One tenant's events of one day; times in seconds since the month's begin.

    Parameters
    ----------
    company, day, seed
        Whose, which one, and what its chance comes from.

    Attributes
    ----------
    rng
        Its chance.
    events
        Time and fields, in no order.
    """

    def __init__(self, company: Company, day: int, seed: int) -> None:
        self.company, self.day = company, day
        self.rng = np.random.default_rng([seed, 2, company.number, day])
        self.tenant_id = company.settings.tenant_id
        self.events: list[Event] = []
        self._routes_ms = _routes_ms(company, day, seed)

    def at(self, local_hour: float) -> float:
        """Return when a local hour of this day is."""
        return self.day * DAY_S + (local_hour - self.company.offset_hours(self.day)) * HOUR_S

    def add(self, second: float, kind: str, service: str, **fields: Any) -> None:
        """Add an event, at its service's own idea of the time."""
        event = {"kind": kind, "tenant_id": self.tenant_id, "service": service, **fields}
        self.events.append((second + SKEW_S[service], event))

    def sign_in(self, second: float, who: dict[str, Any], action: str = "login", **fields: Any) -> None:
        """Add an event of the login service: a success unless there is a ``reason``."""
        method = "sso" if self.company.single_sign_on else "password"
        told = {"action": action, "auth_method": method, "reason": None, **who, **fields}
        self.add(second, "auth", "login", outcome="failure" if told["reason"] else "success", **told)

    def access(self, second: float, who: dict[str, Any], action: str, kind: str, **fields: Any) -> None:
        """Add an access and the request that it came with."""
        told = {"permission": f"{kind}s:{action}", "record_count": 1, "reason": None, **who, **fields}
        reason = told["reason"]
        self.add(
            second,
            "access",
            "api",
            action=action,
            resource_type=kind,
            outcome="failure" if reason else "success",
            **told,
        )
        self.request(second, who, kind, action, STATUSES[reason])

    def request(
        self,
        second: float,
        who: dict[str, Any],
        kind: str,
        action: str,
        status: int = 200,
        slower: float = 1.0,
    ) -> None:
        """Add a request at the gateway; one in a thousand fails, ten times as many after a release."""
        rng, second_of_day = self.rng, second % DAY_S
        weekday = int(second // DAY_S) % 7
        cold = weekday in RELEASE_WEEKDAYS and 0 <= second_of_day - RELEASE_S < COLD_S
        if status == 200 and rng.random() < (0.01 if cold else 0.001):
            status = 503 if cold else 500
        listing = action == "export"
        median_ms = self._routes_ms[RESOURCE_TYPES.index(kind)] * (8.0 if listing else 1.0)
        busy = 0.3 * np.exp(-(((second_of_day / HOUR_S - 14) / 4) ** 2)) if weekday < 5 else 0.0
        backup = BACKUP_S[0] <= second_of_day < BACKUP_S[1]
        slower *= (1 + busy) * (2.5 if cold else 1.0) * (1.6 if backup else 1.0)
        # One in a hundred waits for a lock or a far disk.
        tail = float(np.exp(abs(rng.normal(1.2, 0.5)))) if rng.random() < 0.01 else 1.0
        route = f"/v1/{kind}s/export" if listing else f"/v1/{kind}s/{{id}}"
        self.add(
            second,
            "request",
            "gateway",
            http_method=METHODS.get(action, "POST"),
            http_route=route,
            http_path=route.replace("{id}", "17"),
            http_status=status,
            duration_ms=round(float(median_ms * slower * tail * np.exp(rng.normal(0, 0.5))), 1),
            outcome="failure" if status >= 400 else "success",
            **who,
        )


def _routes_ms(company: Company, day: int, seed: int) -> Floats:
    """Return ``(8,)`` median durations of the types' routes; each release moves them by some 6 %."""
    own = np.random.default_rng([seed, 3, company.number])
    medians = np.exp(own.normal(3.5, 0.7, len(RESOURCE_TYPES)))
    releases = sum(past % 7 in RELEASE_WEEKDAYS for past in range(day))
    drift = np.random.default_rng([seed, 4]).normal(0, 0.06, (releases, len(RESOURCE_TYPES)))
    result: Floats = medians * np.exp(drift.sum(axis=0))
    return result
