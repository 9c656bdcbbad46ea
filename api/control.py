"""The control API: what the command line asks of a running worker, over a UNIX socket.

The socket is readable by its owner only, and whoever owns it owns the data directory too, so requests are
the platform operator's unless they name a tenant. The engine admits one process: this is how the others
reach it. Without a running worker the command line serves the same app to itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from api.history import add_history
from api.keys_control import add_keys, refuse_keys
from api.privacy import OpenPrivacy, add_privacy
from api.standing import check_tenant, scope_of
from api.trail import Seals, add_trail, with_known_keys
from api.v1.key_ring import KeyRing
from schemas.alert import Severity
from schemas.tuning import Tuning
from store.alert_search import AlertSearch, revisions, search_alerts
from store.database import Database, StoreUnavailable
from store.health import health
from store.queries import LetterFilter, Reader
from store.reconciliation import reconcile_all
from store.redrives import RedriveStatus, claim, record
from store.tuning import read_tunings
from store.webhook_rows import Endpoint
from store.webhooks import UnknownWebhook, WebhookStore
from streams.webhooks.address import Network, UrlRefused
from streams.webhooks.delivery import WebhookDelivery
from streams.webhooks.endpoints import add_endpoint, update_endpoint

if TYPE_CHECKING:
    from streams.floods import Flood  # which would load all of Faust, for commands too

Status = Callable[[], dict[str, Any]]
Resume = Callable[[str | None, int | None], Awaitable[Sequence["Flood"]]]
Limit = Annotated[int, Query(ge=1, le=10_000)]


class NewWebhook(BaseModel):
    """What `tenantwatch webhooks add` sends."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    url: str
    description: str = ""
    min_severity: Severity = "low"


class WebhookChange(BaseModel):
    """What `tenantwatch webhooks update` sends; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = None
    description: str | None = None
    min_severity: Severity | None = None
    status: Literal["enabled", "disabled"] | None = None


class DeadLetterPlace(BaseModel):
    """What tells a dead letter from all others; the rest of its row is not looked at."""

    tenant_id: str
    kafka_cluster_id: str
    kafka_topic_id: str
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int


class Redrive(BaseModel):
    """What `tenantwatch dead-letters redrive` says of letters before it sends them again, and after."""

    model_config = ConfigDict(extra="forbid")

    letters: list[DeadLetterPlace]
    status: RedriveStatus
    again: bool = False


class StoppedPartitions(BaseModel):
    """Which partitions `tenantwatch dead-letters resume` means; what is left out means all."""

    model_config = ConfigDict(extra="forbid")

    topic: str | None = None
    partition: int | None = None


def _endpoint(endpoint: Endpoint, *, secret: bool = False) -> dict[str, Any]:
    shown = asdict(endpoint)
    del shown["previous_secret"], shown["previous_secret_until"], shown["version"]
    if not secret:
        del shown["secret"]
    return shown


def control_app(
    database: Database,
    webhooks: WebhookDelivery,
    *,
    status: Status,
    webhook_allow: Sequence[Network] = (),
    resume: Resume | None = None,
    seals: Seals,
    privacy: OpenPrivacy,
    ring: KeyRing | None,
) -> FastAPI:
    """Return the app.

    Parameters
    ----------
    status
        What `/status` answers.
    webhook_allow
        Private networks that a webhook may reach.
    resume
        Lets the worker's stopped partitions go on; None where no worker runs.
    seals
        The keys of the trail's seals, and what is remembered of them beside the store.
    privacy
        Opens the vault when it is first asked for.
    ring
        The HTTP API's own keys; without them there are no API keys to be had.
    """
    app = FastAPI(title="tenantwatch control", openapi_url=None)
    _add_errors(app)
    _add_reads(app, database, status, seals)
    add_history(app, database)
    _add_dead_letters(app, database)
    _add_resume(app, resume)
    _add_webhooks(app, database, webhooks.store, webhooks, webhook_allow)
    add_trail(app, database, seals)
    add_privacy(app, database, privacy)
    if ring is not None:
        add_keys(app, database, ring)
    else:
        refuse_keys(app)
    return app


def _add_errors(app: FastAPI) -> None:
    def answer(code: int) -> Callable[[Request, Exception], Any]:
        async def handler(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status_code=code)

        return handler

    app.add_exception_handler(UnknownWebhook, answer(404))
    app.add_exception_handler(UrlRefused, answer(422))
    app.add_exception_handler(StoreUnavailable, answer(503))


def _add_reads(app: FastAPI, database: Database, status: Status, seals: Seals) -> None:
    def reader(tenant_id: str | None) -> Reader:
        return Reader(database, scope_of(tenant_id))

    @app.get("/status")
    async def get_status() -> dict[str, Any]:
        return status()

    @app.get("/alerts")
    async def get_alerts(
        tenant_id: str | None = None,
        status: str | None = None,
        detector: str | None = None,
        severity: Severity | None = None,
        published_after: datetime | None = None,
        limit: Limit = 100,
    ) -> list[dict[str, Any]]:
        wanted = AlertSearch(status, detector, severity=severity, published_after=published_after)
        page = await asyncio.to_thread(search_alerts, database, scope_of(tenant_id), wanted, limit)
        return page.alerts

    @app.get("/revisions")
    async def get_revisions(
        published_after: datetime,
        tenant_id: str | None = None,
        status: str | None = None,
        detector: str | None = None,
        severity: Severity | None = None,
        limit: Limit = 100,
    ) -> list[dict[str, Any]]:
        wanted = AlertSearch(status, detector, severity=severity, published_after=published_after)
        return await asyncio.to_thread(revisions, database, scope_of(tenant_id), wanted, limit)

    @app.get("/alerts/{alert_id}")
    async def get_alert(alert_id: str, tenant_id: str | None = None) -> list[dict[str, Any]]:
        found = await asyncio.to_thread(reader(tenant_id).alert, alert_id)
        if not found:
            raise HTTPException(404, f"no alert, or more than one, begins with {alert_id!r}")
        return found

    @app.get("/tenants")
    async def get_tenants(tenant_id: str | None = None) -> list[dict[str, Any]]:
        return await asyncio.to_thread(reader(tenant_id).tenants)

    @app.post("/tenants/lookup")
    async def look_up_tenants(tenant_ids: list[str]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(reader(None).tenants, tenant_ids)

    @app.get("/tuning")
    async def get_tuning() -> dict[int, Tuning]:
        return await asyncio.to_thread(read_tunings, database)

    @app.get("/counts")
    async def get_counts(tenant_id: str | None = None) -> list[dict[str, Any]]:
        return await asyncio.to_thread(reader(tenant_id).counts)

    @app.post("/reconciliation")
    async def check_books(committed: dict[str, dict[int, int]] | None = None) -> dict[str, Any]:
        return asdict(await asyncio.to_thread(reconcile_all, database, committed))

    @app.get("/doctor")
    async def get_doctor() -> dict[str, Any]:
        found = await asyncio.to_thread(health, database)
        return {**found, "seals": await asyncio.to_thread(with_known_keys, database, seals, found["seals"])}


def _letters(
    reason: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    topic: str | None = None,
    partition: int = 0,
    offset: int = 0,
    waiting: bool = False,
) -> LetterFilter:
    position = (topic, partition, offset) if topic else None
    return LetterFilter(reason=reason, kind=kind, since=since, position=position, waiting=waiting)


def _add_dead_letters(app: FastAPI, database: Database) -> None:
    claiming = asyncio.Lock()
    Chosen = Annotated[LetterFilter, Depends(_letters)]

    @app.get("/dead-letters")
    async def get_dead_letters(
        chosen: Chosen, tenant_id: str | None = None, oldest_first: bool = False, limit: Limit = 100
    ) -> list[dict[str, Any]]:
        reader = Reader(database, scope_of(tenant_id))
        return await asyncio.to_thread(
            reader.dead_letters, chosen=chosen, oldest_first=oldest_first, limit=limit
        )

    @app.get("/dead-letters/counts")
    async def get_counts(chosen: Chosen, tenant_id: str | None = None) -> list[dict[str, Any]]:
        return await asyncio.to_thread(Reader(database, scope_of(tenant_id)).dead_letter_counts, chosen)

    @app.post("/dead-letters/redrives")
    async def redrive(change: Redrive) -> list[dict[str, Any]]:
        letters = [letter.model_dump() for letter in change.letters]
        if change.status != "sending":
            await asyncio.to_thread(record, database, letters, change.status)
            return letters
        async with claiming:  # of two at once, only one gets a letter
            claimed = await asyncio.to_thread(claim, database, letters, again=change.again)
        return [dict(letter) for letter in claimed]


def _add_resume(app: FastAPI, resume: Resume | None) -> None:
    @app.post("/dead-letters/resume")
    async def go_on(chosen: StoppedPartitions) -> list[dict[str, Any]]:
        if resume is None:
            raise HTTPException(
                409, "no worker runs with this data directory; one that starts has no partition stopped"
            )
        floods = await resume(chosen.topic, chosen.partition)
        return [
            {"topic": flood.topic, "partition": flood.partition, "offset": flood.next_offset}
            for flood in floods
        ]


def _add_webhooks(
    app: FastAPI,
    database: Database,
    store: WebhookStore,
    webhooks: WebhookDelivery,
    allow: Sequence[Network],
) -> None:
    @app.post("/webhooks", status_code=201)
    async def add(new: NewWebhook, response: Response) -> dict[str, Any]:
        if new.tenant_id:
            await check_tenant(database, new.tenant_id, response)
        endpoint = await add_endpoint(store, **new.model_dump(), allow=allow)
        await webhooks.reload()
        return _endpoint(endpoint, secret=True)

    @app.get("/webhooks")
    async def list_endpoints(tenant_id: str | None = None) -> list[dict[str, Any]]:
        return [_endpoint(endpoint) for endpoint in await asyncio.to_thread(store.list, tenant_id)]

    @app.patch("/webhooks/{endpoint_id}")
    async def update(endpoint_id: str, change: WebhookChange) -> dict[str, Any]:
        endpoint = await update_endpoint(
            store, endpoint_id, **change.model_dump(exclude={"status"}), allow=allow
        )
        if change.status == "enabled":
            endpoint = await asyncio.to_thread(store.enable, endpoint_id)
        elif change.status == "disabled":
            endpoint = await asyncio.to_thread(store.disable, endpoint_id, "disabled by the operator")
        await webhooks.reload()
        return _endpoint(endpoint)

    @app.post("/webhooks/{endpoint_id}/rotate")
    async def rotate(endpoint_id: str) -> dict[str, Any]:
        endpoint = await asyncio.to_thread(store.rotate_secret, endpoint_id)
        await webhooks.reload()
        return _endpoint(endpoint, secret=True)

    @app.delete("/webhooks/{endpoint_id}", status_code=204)
    async def remove(endpoint_id: str) -> None:
        await asyncio.to_thread(store.remove, endpoint_id)
        await webhooks.reload()

    @app.post("/webhooks/{endpoint_id}/test")
    async def test(endpoint_id: str) -> dict[str, Any]:
        return asdict(await webhooks.test(endpoint_id))

    @app.get("/deliveries")
    async def deliveries(
        tenant_id: str | None = None, endpoint_id: str | None = None, limit: Limit = 100
    ) -> list[dict[str, Any]]:
        logged = await asyncio.to_thread(store.deliveries, tenant_id, endpoint_id, limit)
        return [asdict(entry) for entry in logged]

    @app.post("/deliveries/{delivery_id}/redeliver")
    async def redeliver(delivery_id: str) -> dict[str, Any]:
        try:
            return asdict(await webhooks.redeliver(delivery_id))
        except ValueError as error:
            raise HTTPException(409, str(error)) from None
