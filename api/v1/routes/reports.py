"""Reports of a tenant: what happened, what was raised, and who used which rights."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.v1.caller import Caller, CallerOf
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem
from api.v1.routing import Routes
from schemas.alert import Severity, UtcTime
from store.reports import MAX_USERS, Span, access_review, activity, alerting

routes = Routes("/reports", "report")
DEFAULT_SPAN: Final = timedelta(days=30)
MAX_SPAN: Final = timedelta(days=400)


class SpanQuery(BaseModel):
    """The time that a report is about."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: AwareDatetime | None = Field(None, alias="from", description="30 days before the end without it.")
    until: AwareDatetime | None = Field(None, alias="to", description="Not included; now without it.")

    def span(self, caller: Caller, parts: Parts) -> Span:
        """Return it.

        Raises
        ------
        Problem
            If it ends before it begins, or is longer than 400 days.
        """
        until = self.until or parts.clock()
        try:
            since = self.since or until - DEFAULT_SPAN
        except OverflowError:
            raise _faulty("`to` is too early") from None
        if until <= since:
            raise _faulty("`to` is not after `from`")
        if until - since > MAX_SPAN:
            raise _faulty(f"at most {MAX_SPAN.days} days in one report")
        return Span(caller.tenant_context, since, until)


def _faulty(detail: str) -> Problem:
    return Problem("invalid", detail, errors=[{"field": "query.to", "detail": detail}])


class Review(SpanQuery):
    """And how many users are shown."""

    limit: Annotated[int, Field(ge=1, le=MAX_USERS)] = 1_000


class Day(BaseModel):
    """Events of one kind on one day, UTC."""

    day: str
    kind: str
    events: int
    failures: int
    users: int


class Failing(BaseModel):
    """Whose, or whence, failures were."""

    value: str
    failures: int


class Letters(BaseModel):
    """What could not be stored, by reason."""

    reason: str
    messages: int
    events: int


class Report(BaseModel):
    """What every report says of itself."""

    tenant_id: str
    since: UtcTime
    until: UtcTime


class ActivityReport(Report):
    """What happened."""

    by_day: list[Day]
    failing_users: list[Failing]
    failing_addresses: list[Failing]
    dead_letters: list[Letters]


class AlertClass(BaseModel):
    """Alerts of one class and severity."""

    detector: str
    classification: str
    severity: Severity
    alerts: int
    events: int
    open: int = Field(description="Whose episode is not over.")


class AlertReport(Report):
    """What was raised."""

    alerts: int
    acted_on: int = Field(description="Acknowledged or resolved by somebody.")
    mean_time_to_act_s: float | None
    by_class: list[AlertClass]


class UserReview(BaseModel):
    """What one user did."""

    user_id: str
    first_seen: UtcTime
    last_seen: UtcTime
    events: int
    logins: int
    failed_logins: int
    denied: int
    exports: int
    privileged: int = Field(description="Rights granted, revoked, or somebody else's used.")
    permissions_used: list[str]
    permissions_denied: list[str]
    addresses: int


class AccessReview(Report):
    """Who used which rights."""

    users: list[UserReview]


@routes.get("/activity", permission="reports:read", reach="tenant")
async def report_activity(
    caller: CallerOf, parts: PartsOf, asked: Annotated[SpanQuery, Query()]
) -> ActivityReport:
    """Report what happened: events and failures by day, whose and whence, and what could not be stored."""
    span = asked.span(caller, parts)
    found = await asyncio.to_thread(activity, parts.database, span)
    return ActivityReport(**_head(span), **found)


@routes.get("/alerts", permission="reports:read", reach="tenant")
async def report_alerts(
    caller: CallerOf, parts: PartsOf, asked: Annotated[SpanQuery, Query()]
) -> AlertReport:
    """Report what was raised, by class and severity, and how fast people acted on it."""
    span = asked.span(caller, parts)
    found = await asyncio.to_thread(alerting, parts.database, span)
    return AlertReport(**_head(span), **found)


@routes.get("/access-review", permission="reports:read", reach="tenant")
async def review_access(caller: CallerOf, parts: PartsOf, asked: Annotated[Review, Query()]) -> AccessReview:
    """Report by user what they did and which permissions they used: to confirm, or to take away."""
    span = asked.span(caller, parts)
    users = await asyncio.to_thread(access_review, parts.database, span, asked.limit)
    return AccessReview(**_head(span), users=[UserReview(**user) for user in users])


def _head(span: Span) -> dict[str, Any]:
    return {"tenant_id": span.tenant.tenant_id, "since": span.since, "until": span.until}
