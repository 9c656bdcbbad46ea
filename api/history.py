"""The part of the control API that reads a tenant's history back."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query, Response

from schemas.event import Kind
from store.database import Database
from store.history import MAX_PAGE_ROWS, events, page, spans, versions
from store.queries import TenantContext

ARROW: Final = "application/vnd.apache.arrow.stream"
MAX_SPANS: Final = 100


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

    @app.get("/history/{kind}/events")
    async def get_events(
        kind: Kind, tenant_id: str, event_id: Annotated[list[str], Query(max_length=100)]
    ) -> list[dict[str, Any]]:
        return await asyncio.to_thread(events, database, TenantContext(tenant_id), kind, event_id)

    @app.get("/history/{kind}/spans")
    async def get_spans(
        kind: Kind,
        tenant_id: str,
        start_ms: Annotated[list[int], Query(max_length=MAX_SPANS)],
        length_ms: int,
        field: str | None = None,
        value: str = "",
    ) -> list[dict[str, int]]:
        tenant = TenantContext(tenant_id)
        try:
            return await asyncio.to_thread(spans, database, tenant, kind, start_ms, length_ms, field, value)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None

    @app.get("/tenants/{tenant_id}/versions")
    async def get_versions(tenant_id: str) -> dict[int, dict[str, Any]]:
        return await asyncio.to_thread(versions, database, TenantContext(tenant_id))
