"""An ordinary day: people log in, mistype, click, go home; machines call through the night."""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

from schemas.event import Kind
from tenantwatch.demo.events import DAY_MS, DAY_START_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timed, event
from tenantwatch.demo.organizations import Device, Organization, Person, Role, carrier_address

CLICKS_PER_HOUR: Final = 22.0
# Share of logins that begin with a wrong password, and how often it is wrong then.
MISTYPED: Final = 0.05
WRONG_TIMES: Final = ((1, 2, 3), (70, 22, 8))
DENIED: Final = 0.004


class Doing(NamedTuple):
    """What somebody may click on."""

    action: str
    resource_type: str
    permission: str
    http_method: str
    http_route: str
    weight: int
    roles: tuple[Role, ...]


_ALL: Final[tuple[Role, ...]] = ("viewer", "editor", "admin")
_WRITERS: Final[tuple[Role, ...]] = ("editor", "admin")
DOINGS: Final = (
    Doing("read", "job", "jobs:read", "GET", "/v1/jobs/{id}", 50, _ALL),
    Doing("read", "report", "reports:read", "GET", "/v1/reports/{id}", 30, _ALL),
    Doing("update", "job", "jobs:update", "PUT", "/v1/jobs/{id}", 15, _WRITERS),
    Doing("create", "job", "jobs:create", "POST", "/v1/jobs", 8, _WRITERS),
    Doing("export", "report", "reports:export", "POST", "/v1/reports/{id}/export", 3, _WRITERS),
    Doing("read", "user", "users:read", "GET", "/v1/users/{id}", 6, ("admin",)),
)
_SIDE_ROUTES: Final = ("/v1/me", "/v1/notifications", "/v1/jobs")


@dataclass
class Day:
    """What has happened so far, in no order.

    Parameters
    ----------
    draw
        All chance comes from here.
    intensity
        How much people click; 1 is a usual day.

    Attributes
    ----------
    events
        All of them.
    attempts_ms
        (tenant, user) to when they proved who they are, or tried.
    """

    draw: Random
    intensity: float
    events: list[Timed] = field(default_factory=list)
    attempts_ms: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, time_ms: int, kind: Kind, tenant_id: str, **fields: Any) -> None:
        """Let something happen; what falls after midnight is left out."""
        if time_ms < DAY_START_MS + DAY_MS:
            self.events.append(event(self.draw, time_ms, kind, tenant_id, **fields))

    def live(self, organization: Organization) -> None:
        """Let an organisation's people have their day."""
        for person in organization.people:
            self._work(organization.tenant_id, person)

    def _work(self, tenant_id: str, person: Person) -> None:
        draw = self.draw
        # Early shift, office hours, late shift.
        hour, spread = draw.choices(((5.5, 0.4), (8.6, 0.6), (14.0, 0.6)), (15, 70, 15))[0]
        begin_ms = DAY_START_MS + int(draw.gauss(hour, spread) * HOUR_MS)
        pause_ms = begin_ms + int(draw.gauss(3.8, 0.3) * HOUR_MS)
        end_ms = begin_ms + int(draw.gauss(8.3, 0.5) * HOUR_MS)
        self._session(tenant_id, person, person.desk, begin_ms, pause_ms)
        self._session(tenant_id, person, person.desk, pause_ms + draw.randint(25, 60) * MINUTE_MS, end_ms)
        if draw.random() < 0.4:
            # Before work, over lunch or in the evening.
            usual_ms = (begin_ms - HOUR_MS, pause_ms + 5 * MINUTE_MS, end_ms + HOUR_MS)
            phone_ms = draw.choice(usual_ms) + draw.randint(0, 15) * MINUTE_MS
            device = Device(carrier_address(draw), person.phone)
            self._session(tenant_id, person, device, phone_ms, phone_ms + draw.randint(4, 20) * MINUTE_MS)

    def _session(self, tenant_id: str, person: Person, device: Device, begin_ms: int, end_ms: int) -> None:
        draw = self.draw
        who = {"user_id": person.user_id, **device._asdict()}
        at_ms = self._log_in(tenant_id, person, who, begin_ms)
        session = {**who, "session_id": f"s-{draw.getrandbits(48):012x}"}
        mean_ms = HOUR_MS / (CLICKS_PER_HOUR * self.intensity)
        refresh_ms = at_ms + 55 * MINUTE_MS
        while (at_ms := at_ms + max(1, int(draw.expovariate(1 / mean_ms)))) < end_ms:
            while refresh_ms < at_ms:
                self._authenticate(tenant_id, session, refresh_ms, "token_refresh", "oauth2")
                refresh_ms += 55 * MINUTE_MS
            self._click(tenant_id, person.role, session, at_ms)
        if draw.random() < 0.6:
            self._authenticate(tenant_id, session, end_ms, "logout", None)

    def _log_in(self, tenant_id: str, person: Person, who: dict[str, Any], at_ms: int) -> int:
        """Log somebody in, perhaps not at the first try; return when that is done."""
        draw = self.draw
        wrong = draw.choices(*WRONG_TIMES)[0] if draw.random() < MISTYPED else 0
        for _ in range(wrong):
            self._authenticate(tenant_id, who, at_ms, "login", "password", "bad_password")
            at_ms += draw.randint(6, 20) * SECOND_MS
        self._authenticate(tenant_id, who, at_ms, "login", "password")
        if person.has_mfa:
            at_ms += draw.randint(4, 15) * SECOND_MS
            self._authenticate(tenant_id, who, at_ms, "mfa", "mfa")
        return at_ms

    def _authenticate(
        self,
        tenant_id: str,
        who: dict[str, Any],
        at_ms: int,
        action: str,
        auth_method: str | None,
        reason: str | None = None,
    ) -> None:
        if action in ("login", "mfa"):
            self.attempts_ms.setdefault((tenant_id, who["user_id"]), []).append(at_ms)
        outcome = {"outcome": "failure", "reason": reason} if reason else {"outcome": "success"}
        method = {"auth_method": auth_method} if auth_method else {}
        self.add(at_ms, "auth", tenant_id, service="login", **who, action=action, **method, **outcome)

    def _click(self, tenant_id: str, role: Role, session: dict[str, Any], at_ms: int) -> None:
        draw = self.draw
        mine = [doing for doing in DOINGS if role in doing.roles]
        others = [doing for doing in DOINGS if role not in doing.roles]
        denied = bool(others) and draw.random() < DENIED
        doing = draw.choice(others) if denied else draw.choices(mine, [doing.weight for doing in mine])[0]
        number = draw.randint(1, 4_000)
        if denied or draw.random() < 0.7:
            self.access(tenant_id, session, at_ms, doing, number, denied=denied)
        self.request(tenant_id, session, at_ms + 20, doing, number, denied=denied)
        for _ in range(draw.choices((0, 1, 2), (40, 40, 20))[0]):
            at_ms += draw.randint(30, 400)
            route = draw.choice(_SIDE_ROUTES)
            self.call(tenant_id, session, at_ms, "GET", route, route)

    def access(
        self,
        tenant_id: str,
        who: dict[str, Any],
        at_ms: int,
        doing: Doing,
        number: int,
        *,
        denied: bool = False,
        **fields: Any,
    ) -> None:
        """Let somebody touch a resource, or be denied it."""
        outcome = {"outcome": "failure", "reason": "missing_permission"} if denied else {"outcome": "success"}
        self.add(
            at_ms,
            "access",
            tenant_id,
            service=f"{doing.resource_type}s-api",
            **who,
            action=doing.action,
            permission=doing.permission,
            resource_type=doing.resource_type,
            resource_id=f"{doing.resource_type}-{number}",
            **outcome,
            **fields,
        )

    def request(
        self,
        tenant_id: str,
        who: dict[str, Any],
        at_ms: int,
        doing: Doing,
        number: int,
        *,
        denied: bool = False,
    ) -> None:
        """Let the gateway report the request of a click."""
        path = doing.http_route.replace("{id}", str(number))
        self.call(tenant_id, who, at_ms, doing.http_method, doing.http_route, path, 403 if denied else None)

    def call(
        self,
        tenant_id: str,
        who: dict[str, Any],
        at_ms: int,
        method: str,
        route: str,
        path: str,
        status: int | None = None,
    ) -> None:
        """Let the gateway report a request; without a status it succeeds but for one in a hundred."""
        draw = self.draw
        status = status or draw.choices((200, 404, 500), (990, 8, 2))[0]
        self.add(
            at_ms,
            "request",
            tenant_id,
            service="gateway",
            **who,
            http_method=method,
            http_route=route,
            http_path=path,
            http_status=status,
            duration_ms=round(draw.lognormvariate(3.6, 0.6), 1),
            bytes_out=draw.randint(200, 9_000),
            outcome="success" if status < 400 else "failure",
        )

    def run_machine(
        self, tenant_id: str, who: dict[str, Any], count: int, begin_ms: int = 0, length_ms: int = DAY_MS
    ) -> None:
        """Let a machine do `count` things at a steady pace: a token an hour, requests, some accesses.

        Parameters
        ----------
        begin_ms, length_ms
            From the start of the day.
        """
        draw, step_ms = self.draw, length_ms / max(count, 1)
        token_every = max(1, round(HOUR_MS / step_ms))
        for i in range(count):
            at_ms = DAY_START_MS + begin_ms + int((i + 0.9 * draw.random()) * step_ms)
            number = draw.randint(1, 4_000)
            if i % token_every == 0 and "user_id" in who:
                fields = {"action": "token_issue", "auth_method": "oauth2", "outcome": "success"}
                self.add(at_ms, "auth", tenant_id, service="login", **who, **fields)
            elif i % 10 == 5 and "user_id" in who:
                self.access(tenant_id, who, at_ms, DOINGS[0], number)
            else:
                self.request(tenant_id, who, at_ms, DOINGS[0], number)
