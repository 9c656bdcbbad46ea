"""The part of the control API that makes and takes back API keys: how the first one comes to be."""

import asyncio
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import ConfigDict

from api.standing import OPERATOR, scope_of
from api.v1.key_ring import KeyRing
from api.v1.keys import KeyDesk, NewKey, shown
from api.v1.parts import utc_now
from api.v1.permissions import UnknownGrant
from api.v1.routes.keys import KeyRequest, Rotation
from store.api_keys import ApiKeys, ListedKey, UnknownKey
from store.database import Database
from store.queries import Reader, TenantContext
from store.revocations import Revocations


class OperatorsKey(KeyRequest):
    """What `tenantwatch keys create` sends."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str


def add_keys(app: FastAPI, database: Database, ring: KeyRing) -> None:
    """Add the routes; whoever reaches the control socket may make any key."""
    desk = KeyDesk(ApiKeys(database), Revocations(database), ring)

    async def get(key_id: str) -> ListedKey:
        try:
            return await asyncio.to_thread(desk.keys.get, scope_of(None), key_id)
        except UnknownKey as error:
            raise HTTPException(404, str(error)) from None

    def with_secret(made: NewKey) -> dict[str, Any]:
        return {**shown(ListedKey(made.key, None, None), utc_now()), "key": made.secret}

    @app.get("/keys")
    async def list_keys(tenant_id: str | None = None) -> list[dict[str, Any]]:
        found = await asyncio.to_thread(desk.keys.listed, scope_of(tenant_id))
        return [shown(each, utc_now()) for each in found]

    @app.post("/keys", status_code=201)
    async def create(wanted: OperatorsKey) -> dict[str, Any]:
        if wanted.tenant_id:
            reader = Reader(database, TenantContext(wanted.tenant_id))
            if not await asyncio.to_thread(reader.tenants):
                raise HTTPException(
                    404, f"there is no tenant {wanted.tenant_id!r} in the directory; apply it first"
                )
        try:
            made = await asyncio.to_thread(
                desk.create, **wanted.model_dump(), created_by=OPERATOR, now=utc_now()
            )
        except UnknownGrant as error:
            raise HTTPException(422, str(error)) from None
        return with_secret(made)

    @app.post("/keys/{key_id}/rotate")
    async def rotate(key_id: str, how: Rotation) -> dict[str, Any]:
        listed = await get(key_id)
        if listed.revoked_at is not None:
            raise HTTPException(409, "the key is revoked; make a new one")
        if how.days is None and utc_now() >= listed.key.expires_at:
            raise HTTPException(
                409, "the key has expired; say for how many --days it holds, or make a new one"
            )
        overlap = timedelta(seconds=how.overlap_s)
        return with_secret(await asyncio.to_thread(desk.rotate, listed.key, utc_now(), overlap, how.days))

    @app.delete("/keys/{key_id}", status_code=204)
    async def revoke(key_id: str) -> None:
        listed = await get(key_id)
        await asyncio.to_thread(desk.revoke, listed.key, utc_now(), by=OPERATOR)

    @app.post("/signing-keys/rotate")
    async def rotate_signing() -> dict[str, Any]:
        key = await asyncio.to_thread(ring.rotate, utc_now())
        return {"kid": key.kid, "active_at": key.active_at.isoformat()}


def refuse_keys(app: FastAPI) -> None:
    """Add routes that say why there are no keys to be had from this process."""

    async def refuse() -> None:
        raise HTTPException(
            409,
            "this worker does not have the API's own keys: run the command where `tenantwatch api` runs, or "
            "give the worker the same file with TENANTWATCH_API_KEYS_FILE",
        )

    for path in ("/keys", "/keys/{key_id}", "/keys/{key_id}/rotate", "/signing-keys/rotate"):
        app.add_api_route(path, refuse, methods=["GET", "POST", "DELETE"])
