"""Ending tokens before their time: a single one by its `jti`, or all that a person was given."""

import asyncio
from typing import Annotated

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from api.v1.caller import CallerOf
from api.v1.parts import PartsOf
from api.v1.routing import Routes
from api.v1.trace import TraceOf
from schemas.event import Text64
from store.revocations import Revocations

routes = Routes("/revocations", "token")


class Revocation(BaseModel):
    """What is to hold no longer."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^(token|user):.{1,256}$")] = Field(
        description="`token:` and a `jti`, or `user:` and a subject: every token given to them until now."
    )
    reason: Text64 = "revoked"


@routes.post(
    "", permission="keys:manage", reach="either", status_code=204, response_model=None, action="revoke"
)
async def revoke(caller: CallerOf, parts: PartsOf, trace: TraceOf, wanted: Revocation) -> Response:
    """End tokens of the tenant, or without a tenant of everybody; those of other tenants live on."""
    trace.resource_id = wanted.id
    await asyncio.to_thread(
        Revocations(parts.database).revoke,
        wanted.id,
        caller.tenant_id,
        parts.clock(),
        by=caller.principal.subject,
        reason=wanted.reason,
    )
    return Response(status_code=204)
