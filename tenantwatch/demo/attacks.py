"""The seven attacks that are planted in the day, each with what is to be found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from schemas.alert import Alert, EntityType, to_ms
from tenantwatch.demo.day import DOINGS, Day
from tenantwatch.demo.events import DAY_START_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timed
from tenantwatch.demo.organizations import DESKTOPS, ENTERPRISE, Organization, Person

# An episode of failed logins is over after half an hour; until then its victim's own logins would be part
# of the story.
AFTERMATH_MS: Final = 40 * MINUTE_MS
SCRIPT: Final = "python-requests/2.32"


@dataclass(frozen=True)
class Attack:
    """An attack and the alert that it must raise.

    Parameters
    ----------
    name
        What happens, in a few words for a person.
    detector, classification
        Of the alert that it must raise.
    entities
        Type and value of whom an alert about it may name.
    times_ms
        When its events happen, ascending.
    """

    name: str
    tenant_id: str
    detector: str
    classification: str
    entities: frozenset[tuple[EntityType, str]]
    times_ms: tuple[int, ...]

    def explains(self, alert: Alert) -> bool:
        """Say whether an alert is about this attack: its tenant, one of its entities, and its time."""
        return (
            alert.tenant_id == self.tenant_id
            and (alert.entity.type, alert.entity.value) in self.entities
            and self.times_ms[0] <= to_ms(alert.detected_at) <= self.times_ms[-1]
        )

    def is_what_must_be_found(self, alert: Alert) -> bool:
        """Say whether an alert calls this attack by its name."""
        return (
            self.explains(alert)
            and alert.detector == self.detector
            and alert.classification == self.classification
        )


def at(hour: int, minute: int) -> int:
    """Return a time of the day."""
    return DAY_START_MS + hour * HOUR_MS + minute * MINUTE_MS


def plant(organizations: tuple[Organization, ...], day: Day) -> tuple[tuple[Attack, ...], list[Timed]]:
    """Return the attacks and their events.

    Parameters
    ----------
    organizations
        Enterprise, standard, free.
    day
        The ordinary day: whom an attack is aimed at is somebody who is at work then.
    """
    enterprise, standard, free = organizations
    planter = _Planter(day)
    attacks = (
        planter.spray(enterprise, at(8, 20), "203.0.113.44"),
        planter.guess(standard, at(10, 12), "203.0.113.21"),
        planter.overrun(free, at(11, 5)),
        planter.probe_permissions(enterprise, at(15, 10)),
        planter.cross_tenants(standard, at(15, 45)),
        # So late that their alerts are still open when the day ends: what `alerts list` shows.
        planter.take_over(enterprise, at(23, 30), "203.0.113.130"),
        planter.enumerate_users(free, at(23, 40), "203.0.113.77"),
    )
    return attacks, planter.events


class _Planter:
    """Lets attacks happen, in a `Day` of its own with chance of its own."""

    def __init__(self, ordinary: Day) -> None:
        self._attempts_ms = ordinary.attempts_ms
        self._day = Day(Random(ordinary.draw.getrandbits(64)), ordinary.intensity)  # noqa: S311 - no secret
        self._taken: set[str] = set()

    @property
    def events(self) -> list[Timed]:
        return self._day.events

    def _victim(self, organization: Organization, begin_ms: int, end_ms: int) -> Person:
        """Return somebody new who does not log in until the attack is over, and is at work if anybody is."""

        def suits(person: Person) -> tuple[bool, bool, bool]:
            attempts = self._attempts_ms.get((organization.tenant_id, person.user_id), [])
            logs_in = any(begin_ms - 10 * MINUTE_MS < at_ms < end_ms + AFTERMATH_MS for at_ms in attempts)
            at_work = any(begin_ms - 3 * HOUR_MS < at_ms < begin_ms for at_ms in attempts)
            return person.user_id not in self._taken, not logs_in, at_work

        chosen = max(organization.people, key=suits)
        self._taken.add(chosen.user_id)
        return chosen

    def _attack(
        self,
        name: str,
        organization: Organization,
        found_as: tuple[str, str],
        entities: Iterable[tuple[EntityType, str]],
        act: Callable[[], None],
    ) -> Attack:
        before = len(self.events)
        act()
        times_ms = tuple(sorted(timed.time_ms for timed in self.events[before:]))
        return Attack(name, organization.tenant_id, *found_as, frozenset(entities), times_ms)

    def _try(
        self, organization: Organization, at_ms: int, user_id: str, source_ip: str, reason: str = ""
    ) -> None:
        outcome = {"outcome": "failure", "reason": reason} if reason else {"outcome": "success"}
        who = {"user_id": user_id, "source_ip": source_ip, "user_agent": SCRIPT}
        fields: dict[str, Any] = {"service": "login", "action": "login", "auth_method": "password"}
        self._day.add(at_ms, "auth", organization.tenant_id, **fields, **who, **outcome)

    def spray(self, organization: Organization, begin_ms: int, source_ip: str) -> Attack:
        """One try for each of 60 people, slowly: nobody is locked out, and no single user looks attacked."""

        def act() -> None:
            for i, person in enumerate(self._day.draw.sample(organization.people, 60)):
                time_ms = begin_ms + i * 15 * SECOND_MS + self._day.draw.randint(0, 4_000)
                self._try(organization, time_ms, person.user_id, source_ip, "bad_password")

        found_as = ("failed_login", "password_spray")
        return self._attack("password spraying", organization, found_as, [("source_ip", source_ip)], act)

    def guess(self, organization: Organization, begin_ms: int, source_ip: str) -> Attack:
        """Forty passwords for one user within a minute and a half."""
        victim = self._victim(organization, begin_ms, begin_ms + 90 * SECOND_MS).user_id

        def act() -> None:
            for i in range(40):
                time_ms = begin_ms + i * 2 * SECOND_MS + self._day.draw.randint(0, 900)
                self._try(organization, time_ms, victim, source_ip, "bad_password")

        entities: list[tuple[EntityType, str]] = [("source_ip", source_ip), ("user_id", victim)]
        return self._attack("password guessing", organization, ("failed_login", "brute_force"), entities, act)

    def enumerate_users(self, organization: Organization, begin_ms: int, source_ip: str) -> Attack:
        """Fifty names that nobody has, to learn which exist."""

        def act() -> None:
            for i in range(50):
                time_ms = begin_ms + i * 4 * SECOND_MS + self._day.draw.randint(0, 2_000)
                self._try(organization, time_ms, f"guess-{i:02}", source_ip, "unknown_user")

        found_as = ("failed_login", "user_enumeration")
        return self._attack("user enumeration", organization, found_as, [("source_ip", source_ip)], act)

    def take_over(self, organization: Organization, begin_ms: int, source_ip: str) -> Attack:
        """A dozen wrong passwords, then the right one, then the reports are read."""
        victim = self._victim(organization, begin_ms, begin_ms + 10 * MINUTE_MS).user_id
        session = {
            "user_id": victim,
            "source_ip": source_ip,
            "user_agent": DESKTOPS[2],
            "session_id": "s-stolen",
        }

        def act() -> None:
            time_ms = begin_ms
            for _ in range(14):
                self._try(organization, time_ms, victim, source_ip, "bad_password")
                time_ms += self._day.draw.randint(3, 9) * SECOND_MS
            self._try(organization, time_ms, victim, source_ip)
            for i in range(25):
                time_ms += self._day.draw.randint(2, 8) * SECOND_MS
                self._day.access(organization.tenant_id, session, time_ms, DOINGS[1], i, record_count=500)

        entities: list[tuple[EntityType, str]] = [("source_ip", source_ip), ("user_id", victim)]
        found_as = ("failed_login", "success_after_failures")
        return self._attack("account takeover", organization, found_as, entities, act)

    def overrun(self, organization: Organization, begin_ms: int) -> Attack:
        """Somebody's script in the free tier: 160 requests in four minutes, where 100 in 15 are allowed."""
        person = self._victim(organization, begin_ms, begin_ms)
        who = {"user_id": person.user_id, "source_ip": person.desk.source_ip, "user_agent": SCRIPT}

        def act() -> None:
            for i in range(160):
                time_ms = begin_ms + i * 1_500 + self._day.draw.randint(0, 900)
                self._day.request(organization.tenant_id, who, time_ms, DOINGS[0], i)

        entities: list[tuple[EntityType, str]] = [("user_id", person.user_id)]
        return self._attack("rate limit overrun", organization, ("rate_breach", "rate_breach"), entities, act)

    def probe_permissions(self, organization: Organization, begin_ms: int) -> Attack:
        """Somebody tries 15 permissions that they do not have, three times each."""
        person = self._victim(organization, begin_ms, begin_ms)
        who = {"user_id": person.user_id, **person.desk._asdict(), "session_id": "s-probe"}

        def act() -> None:
            for i in range(45):
                doing = DOINGS[5]._replace(permission=f"admin-{i % 15}:read", resource_type="setting")
                time_ms = begin_ms + i * 2 * SECOND_MS + self._day.draw.randint(0, 900)
                self._day.access(organization.tenant_id, who, time_ms, doing, i, denied=True)

        entities: list[tuple[EntityType, str]] = [("user_id", person.user_id)]
        found_as = ("access_anomaly", "permission_probing")
        return self._attack("permission probing", organization, found_as, entities, act)

    def cross_tenants(self, organization: Organization, begin_ms: int) -> Attack:
        """A missing check lets somebody read three jobs of another tenant."""
        person = self._victim(organization, begin_ms, begin_ms)
        who = {"user_id": person.user_id, **person.desk._asdict(), "session_id": "s-cross"}

        def act() -> None:
            for i in range(3):
                time_ms = begin_ms + i * 20 * SECOND_MS
                self._day.access(
                    organization.tenant_id, who, time_ms, DOINGS[0], i, resource_tenant_id=ENTERPRISE
                )

        entities: list[tuple[EntityType, str]] = [("user_id", person.user_id)]
        found_as = ("access_anomaly", "cross_tenant")
        return self._attack("cross-tenant access", organization, found_as, entities, act)
