"""The part of the control API that reads a tenant's history back."""

import asyncio
from typing import Annotated, Final

from fastapi import FastAPI, Query, Response

from schemas.event import Kind
from store.database import Database
from store.history import MAX_PAGE_ROWS, page
from store.queries import TenantContext

ARROW: Final = "application/vnd.apache.arrow.stream"


def add_history(app: FastAPI, database: Database) -> None:
    """Add the routes; each names exactly one tenant."""

    @app.get("/history/{kind}")
    async def get_page(
        kind: Kind,
        tenant_id: str,
        after_ms: int,
        until_ms: int,
        rows: Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS)] = MAX_PAGE_ROWS,
    ) -> Response:
        tenant = TenantContext(tenant_id)
        content = await asyncio.to_thread(page, database, tenant, kind, after_ms, until_ms, rows)
        return Response(content, media_type=ARROW)
