"""API keys: a caller can give away no more than it has, and only within its own tenant."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Path, Response
from pydantic import BaseModel, ConfigDict, Field

from api.v1.caller import Caller, CallerOf
from api.v1.keys import DEFAULT_DAYS, MAX_DAYS, MAX_OVERLAP, KeyDesk, NewKey, shown
from api.v1.parts import Parts, PartsOf
from api.v1.permissions import UnknownGrant, effective
from api.v1.problems import Problem, not_found
from api.v1.routing import Routes
from schemas.event import Text64
from store.api_keys import ApiKeys, ListedKey, UnknownKey
from store.revocations import Revocations

routes = Routes("/keys", "api_key")
MAX_GRANTS: Final = 50
KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="The middle part of the key.")]
Days = Annotated[int, Field(ge=1, le=MAX_DAYS, description="Days that it holds.")]


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Text64 = Field(description="What it is for.")
    roles: Annotated[list[Text64], Field(max_length=MAX_GRANTS)] = []
    permissions: Annotated[list[Text64], Field(max_length=MAX_GRANTS)] = []
    days: Days = DEFAULT_DAYS


class Rotation(BaseModel):
    """How a key gets its new secret."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: Annotated[int, Field(ge=0, le=int(MAX_OVERLAP.total_seconds()))] = Field(
        24 * 3600, description="So long the old secret holds beside the new one, in seconds."
    )
    days: Days | None = Field(
        None, description="Days that the key holds from now on; without it, its end stays."
    )


class Key(BaseModel):
    """A key, without its secret."""

    key_id: str
    tenant_id: str | None = Field(description="Whose it is; null for the platform.")
    name: str
    roles: list[str]
    permissions: list[str]
    effective_permissions: list[str] = Field(description="What roles and permissions come to.")
    status: str = Field(description="`active`, `expired` or `revoked`.")
    created_at: str
    created_by: str
    expires_at: str
    last_used_at: str | None = Field(description="To the minute.")
    previous_secret_until: str | None = Field(
        description="Until then the secret before the last rotation holds too."
    )
    revoked_at: str | None


class KeyWithSecret(Key):
    """A key that was just made or rotated."""

    key: str = Field(description="The key itself. It is shown this once.")


class KeyList(BaseModel):
    """The keys of a tenant, or of all."""

    keys: list[Key]


def desk_of(parts: Parts) -> KeyDesk:
    """Return what makes keys."""
    return KeyDesk(ApiKeys(parts.database), Revocations(parts.database), parts.ring)


@routes.get("", permission="keys:manage", reach="either")
async def list_keys(caller: CallerOf, parts: PartsOf) -> KeyList:
    """List the tenant's keys, or for platform callers everybody's; secrets are nowhere."""
    found = await asyncio.to_thread(ApiKeys(parts.database).listed, caller.scope)
    now = parts.clock()
    return KeyList(keys=[Key(**shown(each, now)) for each in found])


@routes.post(
    "", permission="keys:manage", reach="either", status_code=201, action="grant", problems=["invalid"]
)
async def create_key(caller: CallerOf, parts: PartsOf, wanted: KeyRequest) -> KeyWithSecret:
    """Make a key for the tenant, or without a tenant for the platform; its secret is shown this once."""
    _check_may_give(caller, wanted.roles, wanted.permissions)
    try:
        made = await asyncio.to_thread(
            desk_of(parts).create,
            tenant_id=caller.tenant_id,
            name=wanted.name,
            roles=wanted.roles,
            permissions=wanted.permissions,
            days=wanted.days,
            created_by=caller.principal.subject,
            now=parts.clock(),
        )
    except UnknownGrant as error:
        raise Problem("invalid", str(error)) from None
    return _with_secret(made, parts)


@routes.get("/{key_id}", permission="keys:manage", reach="either")
async def show_key(caller: CallerOf, parts: PartsOf, key_id: KeyId) -> Key:
    """Show one key."""
    return Key(**shown(await _get(caller, parts, key_id), parts.clock()))


@routes.post(
    "/{key_id}/rotate", permission="keys:manage", reach="either", action="update", problems=["conflict"]
)
async def rotate_key(caller: CallerOf, parts: PartsOf, key_id: KeyId, how: Rotation) -> KeyWithSecret:
    """Give a key a new secret; the old one holds beside it for a while."""
    listed = await _get(caller, parts, key_id)
    _check_may_give(caller, listed.key.roles, listed.key.permissions, platform=not listed.key.tenant_id)
    now = parts.clock()
    if listed.revoked_at is not None:
        raise Problem("conflict", "the key is revoked; make a new one")
    if how.days is None and now >= listed.key.expires_at:
        raise Problem(
            "conflict", "the key has expired; say in `days` for how long it holds, or make a new one"
        )
    rotated = await asyncio.to_thread(
        desk_of(parts).rotate, listed.key, now, timedelta(seconds=how.overlap_s), how.days
    )
    return _with_secret(rotated, parts)


@routes.delete("/{key_id}", permission="keys:manage", reach="either", status_code=204, action="revoke")
async def revoke_key(caller: CallerOf, parts: PartsOf, key_id: KeyId) -> Response:
    """Revoke a key at once, with every token that it was given."""
    listed = await _get(caller, parts, key_id)
    await asyncio.to_thread(desk_of(parts).revoke, listed.key, parts.clock(), by=caller.principal.subject)
    return Response(status_code=204)


async def _get(caller: Caller, parts: Parts, key_id: str) -> ListedKey:
    try:
        return await asyncio.to_thread(ApiKeys(parts.database).get, caller.scope, key_id)
    except UnknownKey:
        raise not_found("key") from None


def _check_may_give(
    caller: Caller,
    roles: list[str] | tuple[str, ...],
    permissions: list[str] | tuple[str, ...],
    *,
    platform: bool | None = None,
) -> None:
    """Refuse to give away what the caller does not have itself."""
    wide = not caller.tenant_id if platform is None else platform
    given = effective(roles, permissions, platform=wide)
    if beyond := sorted(given - caller.principal.permissions):
        raise Problem("permission_denied", f"the caller itself does not have: {', '.join(beyond)}")


def _with_secret(made: NewKey, parts: Parts) -> KeyWithSecret:
    described: dict[str, Any] = shown(ListedKey(made.key, None, None), parts.clock())
    return KeyWithSecret(**described, key=made.secret)
