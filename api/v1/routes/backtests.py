"""Backtests: what a tenant's detectors would have said, with other settings."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.v1.backtesting import as_it_stands
from api.v1.caller import CallerOf
from api.v1.parts import PartsOf
from api.v1.problems import Problem, not_found
from api.v1.routes.tenants import check_detectors
from api.v1.routing import Routes
from schemas.alert import UtcTime
from schemas.tenant import ParameterValue
from store.backtests import BacktestStatus, find_backtest, list_backtests

routes = Routes("/backtests", "backtest")
BacktestId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
MAX_DAYS: Final = 90


class BacktestRequest(BaseModel):
    """What is to be tried, and on which time."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: AwareDatetime = Field(alias="from", description="Alerts from then on are shown.")
    until: AwareDatetime = Field(alias="to")
    detectors: dict[str, dict[str, ParameterValue]] = Field(
        {}, description="Settings to try; without any, what the present ones would have said."
    )


class ShownBacktest(BaseModel):
    """A backtest as it stands."""

    backtest_id: str
    status: BacktestStatus
    request: dict[str, Any]
    result: dict[str, Any] | None = Field(
        description="`alerts`; with settings to try, `current`, `changed`, `kept`, `gained`, `lost`."
    )
    requested_by: str
    created_at: UtcTime
    changed_at: UtcTime


class BacktestList(BaseModel):
    """Backtests, the latest first, without their results."""

    backtests: list[ShownBacktest]


@routes.post("", permission="backtests:run", reach="tenant", status_code=202, problems=["conflict"])
async def begin_backtest(request: Request, caller: CallerOf, wanted: BacktestRequest) -> ShownBacktest:
    """Begin a backtest over the tenant's stored events; ask for it by its id until it has finished."""
    check_detectors(wanted.detectors, "body.detectors")
    if not 0 < (wanted.until - wanted.since).total_seconds() <= MAX_DAYS * 86_400:
        detail = f"`to` must be after `from`, by at most {MAX_DAYS} days"
        raise Problem("invalid", detail, errors=[{"field": "body.to", "detail": detail}])
    asked = wanted.model_dump(mode="json", by_alias=True)
    begun = await request.app.state.backtests.begin(caller.tenant_id, asked, caller.principal.subject)
    return ShownBacktest(**asdict(begun))


@routes.get("", permission="backtests:run", reach="tenant")
async def show_backtests(
    caller: CallerOf, parts: PartsOf, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> BacktestList:
    """List the tenant's backtests."""
    found = await asyncio.to_thread(list_backtests, parts.database, caller.tenant_context, limit)
    now = parts.clock()
    shown = [asdict(as_it_stands(each, now)) | {"result": None} for each in found]
    return BacktestList(backtests=[ShownBacktest(**each) for each in shown])


@routes.get("/{backtest_id}", permission="backtests:run", reach="tenant")
async def show_backtest(caller: CallerOf, parts: PartsOf, backtest_id: BacktestId) -> ShownBacktest:
    """Show a backtest, and what it found if it has finished."""
    found = await asyncio.to_thread(find_backtest, parts.database, caller.tenant_context, backtest_id)
    if found is None:
        raise not_found("backtest")
    return ShownBacktest(**asdict(as_it_stands(found, parts.clock())))
