"""Detector parameters of a tenant: what holds, who said so, and changing the tenant's own."""

import asyncio

from pydantic import BaseModel, ConfigDict

from api.v1.caller import CallerOf
from api.v1.parts import Parts, PartsOf
from api.v1.routes.tenants import check_detectors, find_tenant, find_tenant_to_change, write_tenant
from api.v1.routing import Routes
from detectors.tuning import settings_of
from schemas.tenant import ParameterValue, Tenant
from store.tuning import read_tunings

routes = Routes("/tuning", "tuning")
Own = dict[str, dict[str, ParameterValue]]


class Setting(BaseModel):
    """A parameter as it holds."""

    detector: str
    parameter: str
    value: ParameterValue
    source: str
    low: float
    high: float
    why: str


class TuningShown(BaseModel):
    """What the detectors go by for the tenant."""

    own: Own
    settings: list[Setting]


class OwnTuning(BaseModel):
    """The tenant's own overrides, in place of those it had."""

    model_config = ConfigDict(extra="forbid")

    own: Own


@routes.get("", permission="tenants:read", reach="tenant")
async def show_tuning(caller: CallerOf, parts: PartsOf) -> TuningShown:
    """Show every parameter of every detector: its value, who said so, and its range."""
    tenant = await find_tenant(caller, parts, caller.tenant_id)
    return await _shown(parts, tenant)


@routes.put("", permission="tuning:manage", reach="tenant", problems=["conflict"])
async def put_tuning(caller: CallerOf, parts: PartsOf, wanted: OwnTuning) -> TuningShown:
    """Let the tenant's own values hold from the next event on.

    The answer is 409 while a change of the tenant by the platform is on its way: send it again in a moment.
    """
    check_detectors(wanted.own, "body.own")
    tenant = await find_tenant_to_change(parts, caller.tenant_context)
    changed = tenant.model_copy(update={"detectors": wanted.own})
    await write_tenant(parts, tenant.tenant_id, changed)
    return await _shown(parts, changed)


async def _shown(parts: Parts, tenant: Tenant) -> TuningShown:
    *_, newest = (await asyncio.to_thread(read_tunings, parts.database)).values()
    found = settings_of(tenant, newest)
    return TuningShown(own=tenant.detectors, settings=[Setting(**each._asdict()) for each in found])
