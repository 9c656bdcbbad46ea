"""The public halves of the keys that sign access tokens."""

from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.v1.parts import PartsOf
from api.v1.routing import Routes

routes = Routes("/.well-known", "signing_key")


class Jwks(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, Any]]


@routes.get("/jwks.json", permission=None, reach="public", response_model=Jwks)
async def show_signing_keys(parts: PartsOf) -> Response:
    """Show the keys that verify access tokens: a new one is here five minutes before it signs."""
    keys = [key.jwk() for key in parts.ring.verifying(parts.clock())]
    return JSONResponse({"keys": keys}, headers={"Cache-Control": "public, max-age=240"})
