"""Ending tokens before their time: a single one by its `jti`, or all that a person was given."""

import asyncio
from typing import Annotated

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.v1.caller import Caller, CallerOf
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem
from api.v1.routing import Routes
from api.v1.trace import trace_of
from schemas.event import Text64
from schemas.personal import is_pseudonym
from store.revocations import Revocations

routes = Routes("/revocations", "token")


class Revocation(BaseModel):
    """What is to hold no longer."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^(token|user):.{1,256}$")] = Field(
        description="`token:` and a `jti`, or `user:` and a subject, or the pseudonym that the trail has of "
        "one: every token given to them until now. An id that nobody has is taken, too."
    )
    reason: Text64 = "revoked"


@routes.post(
    "", permission="keys:manage", reach="either", status_code=204, response_model=None, action="revoke"
)
async def revoke(request: Request, caller: CallerOf, parts: PartsOf, wanted: Revocation) -> Response:
    """End tokens of the tenant, or without a tenant of everybody; those of other tenants live on."""
    trace_of(request.scope).resource_id = wanted.id
    await asyncio.to_thread(
        Revocations(parts.database).revoke,
        await asyncio.to_thread(_named, wanted.id, caller, parts),
        caller.tenant_id,
        parts.clock(),
        by=caller.principal.subject,
        reason=wanted.reason,
    )
    return Response(status_code=204)


def _named(id_: str, caller: Caller, parts: Parts) -> str:
    """Return an id as tokens have it: they name people by what the provider calls them, by no pseudonym."""
    pseudonym = id_.removeprefix("user:")
    if not is_pseudonym(pseudonym):
        return id_
    found = {}
    if parts.privacy is not None and caller.tenant is not None:
        # No reveal: the caller is told that there is somebody, and not who.
        found = parts.privacy.vault.originals(caller.tenant_context, [pseudonym])
    if pseudonym not in found:
        detail = (
            "the vault knows nobody by this pseudonym here: name the tenant, or send the provider's `sub`"
        )
        raise Problem("invalid", detail, errors=[{"field": "body.id", "detail": detail}])
    # With `"user_id": "always"` all that the trail had is a pseudonym, the API's own prefix included.
    return f"user:{found[pseudonym].removeprefix('user:')}"
