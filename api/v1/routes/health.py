"""Whether the API is there."""

import asyncio
from typing import Literal

from pydantic import BaseModel

from api.v1.parts import PartsOf
from api.v1.routing import Routes

routes = Routes("/health", "health")


class Health(BaseModel):
    """What anybody may know."""

    status: Literal["ok"] = "ok"
    version: Literal["v1"] = "v1"


@routes.get("", permission=None, reach="public", trail="none")
async def show_health(parts: PartsOf) -> Health:
    """Say whether the API answers and reaches its store (otherwise 503)."""
    await asyncio.to_thread(parts.database.query, "SELECT 1 AS one")
    return Health()
