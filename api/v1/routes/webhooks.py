"""Webhooks: where a tenant's alerts are delivered, and what became of the deliveries."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.v1.caller import Caller, CallerOf
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem, not_found
from api.v1.routing import Routes
from schemas.alert import Severity, UtcTime
from schemas.event import Text256
from store.webhook_rows import Endpoint
from store.webhooks import PLATFORM, UnknownWebhook
from streams.webhooks.address import UrlRefused
from streams.webhooks.endpoints import add_endpoint, update_endpoint

routes = Routes("/webhooks", "webhook")
EndpointId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Url = Annotated[str, Field(min_length=1, max_length=2_000)]


class NewWebhook(BaseModel):
    """An endpoint to be added."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    description: Annotated[str, Field(max_length=256)] = ""
    min_severity: Severity = "low"


class WebhookChange(BaseModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    description: Text256 | None = None
    min_severity: Severity | None = None
    status: Literal["enabled", "disabled"] | None = None


class Webhook(BaseModel):
    """An endpoint, without its secret."""

    endpoint_id: str
    tenant_id: str | None = Field(description="Whose alerts it receives; null: everybody's.")
    url: str
    description: str
    min_severity: Severity
    status: str
    status_reason: str
    created_at: UtcTime


class WebhookWithSecret(Webhook):
    """An endpoint that was just added, or whose secret was just rotated."""

    secret: str = Field(description="Signs what is delivered. It is shown this once.")


class WebhookList(BaseModel):
    """Endpoints."""

    webhooks: list[Webhook]


class Probe(BaseModel):
    """What an endpoint answered to a test."""

    http_status: int = Field(description="0 when no answer came.")
    duration_ms: int
    error: str = Field(description="Why it is no success; empty when it is.")
    retry_after_s: float | None


class DeliveryList(BaseModel):
    """Deliveries, the latest first, each with its attempts."""

    deliveries: list[dict[str, Any]]


@routes.get("", permission="webhooks:manage", reach="either")
async def list_webhooks(caller: CallerOf, parts: PartsOf) -> WebhookList:
    """List the tenant's endpoints, or for platform callers that name none, the platform's own."""
    found = await asyncio.to_thread(parts.webhooks.store.list, _owner(caller))
    return WebhookList(webhooks=[Webhook(**_shown(endpoint)) for endpoint in found])


@routes.post("", permission="webhooks:manage", reach="either", status_code=201, problems=["not_configured"])
async def add_webhook(caller: CallerOf, parts: PartsOf, new: NewWebhook) -> WebhookWithSecret:
    """Add an endpoint. It must be on the public internet; its secret is shown this once."""
    try:
        endpoint = await add_endpoint(
            parts.webhooks.store,
            tenant_id=_owner(caller),
            allow=parts.config.webhook_allow,
            **new.model_dump(),
        )
    except UrlRefused as error:
        raise _refused(error) from None
    await parts.webhooks.reload()
    return WebhookWithSecret(**_shown(endpoint), secret=endpoint.secret)


@routes.get("/{endpoint_id}", permission="webhooks:manage", reach="either")
async def show_webhook(caller: CallerOf, parts: PartsOf, endpoint_id: EndpointId) -> Webhook:
    """Show an endpoint."""
    return Webhook(**_shown(await _get(caller, parts, endpoint_id)))


@routes.patch("/{endpoint_id}", permission="webhooks:manage", reach="either")
async def change_webhook(
    caller: CallerOf, parts: PartsOf, endpoint_id: EndpointId, change: WebhookChange
) -> Webhook:
    """Change what is given."""
    await _get(caller, parts, endpoint_id)
    store, given = parts.webhooks.store, change.model_dump(exclude={"status"})
    try:
        endpoint = await update_endpoint(store, endpoint_id, allow=parts.config.webhook_allow, **given)
    except UrlRefused as error:
        raise _refused(error) from None
    if change.status == "enabled":
        endpoint = await asyncio.to_thread(store.enable, endpoint_id)
    elif change.status == "disabled":
        endpoint = await asyncio.to_thread(store.disable, endpoint_id, "disabled over the API")
    await parts.webhooks.reload()
    return Webhook(**_shown(endpoint))


@routes.post(
    "/{endpoint_id}/rotate",
    permission="webhooks:manage",
    reach="either",
    action="update",
    problems=["not_configured"],
)
async def rotate_webhook(caller: CallerOf, parts: PartsOf, endpoint_id: EndpointId) -> WebhookWithSecret:
    """Give an endpoint a new secret; the old one signs beside it for a day."""
    await _get(caller, parts, endpoint_id)
    endpoint = await asyncio.to_thread(parts.webhooks.store.rotate_secret, endpoint_id)
    await parts.webhooks.reload()
    return WebhookWithSecret(**_shown(endpoint), secret=endpoint.secret)


@routes.post(
    "/{endpoint_id}/test",
    permission="webhooks:manage",
    reach="either",
    action="update",
    problems=["not_configured"],
)
async def test_webhook(caller: CallerOf, parts: PartsOf, endpoint_id: EndpointId) -> Probe:
    """Send a test message to an endpoint, and show what it answered."""
    await _get(caller, parts, endpoint_id)
    return Probe(**asdict(await parts.webhooks.test(endpoint_id)))


@routes.delete("/{endpoint_id}", permission="webhooks:manage", reach="either", status_code=204)
async def remove_webhook(caller: CallerOf, parts: PartsOf, endpoint_id: EndpointId) -> Response:
    """Remove an endpoint; what waits for it is cancelled, and its delivery log stays."""
    await _get(caller, parts, endpoint_id)
    await asyncio.to_thread(parts.webhooks.store.remove, endpoint_id)
    await parts.webhooks.reload()
    return Response(status_code=204)


@routes.get("/{endpoint_id}/deliveries", permission="webhooks:manage", reach="either")
async def list_deliveries(
    caller: CallerOf,
    parts: PartsOf,
    endpoint_id: EndpointId,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> DeliveryList:
    """List what was delivered to an endpoint, and what was not and why."""
    await _get(caller, parts, endpoint_id)
    found = await asyncio.to_thread(parts.webhooks.store.deliveries, _owner(caller), endpoint_id, limit)
    return DeliveryList(deliveries=[asdict(entry) for entry in found])


def _owner(caller: Caller) -> str:
    return caller.tenant_id or PLATFORM


async def _get(caller: Caller, parts: Parts, endpoint_id: str) -> Endpoint:
    try:
        return await asyncio.to_thread(parts.webhooks.store.get, endpoint_id, _owner(caller))
    except UnknownWebhook:
        raise not_found("webhook") from None


def _refused(error: UrlRefused) -> Problem:
    errors = [{"field": "body.url", "detail": str(error)}]
    return Problem("invalid", "a webhook may not go there", errors=errors)


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    names = Webhook.model_fields.keys() - {"tenant_id"}
    return {name: getattr(endpoint, name) for name in names} | {"tenant_id": endpoint.tenant_id or None}
