"""Adding and changing endpoints: the URL is checked, then stored."""

import asyncio
from collections.abc import Sequence

from schemas.alert import Severity
from store.webhook_rows import Endpoint
from store.webhooks import WebhookStore
from streams.webhooks.address import Network, check_url
from streams.webhooks.sender import Resolver


async def add_endpoint(
    store: WebhookStore,
    *,
    tenant_id: str,
    url: str,
    description: str = "",
    min_severity: Severity = "low",
    allow: Sequence[Network] = (),
) -> Endpoint:
    """Add an endpoint; show its secret to the caller once.

    Parameters
    ----------
    tenant_id
        Whose alerts it receives; empty for the platform, which receives every tenant's.

    Raises
    ------
    UrlRefused
        If a webhook may not go there.
    """
    await _check(url, allow)
    return await asyncio.to_thread(
        store.add, tenant_id=tenant_id, url=url, description=description, min_severity=min_severity
    )


async def update_endpoint(
    store: WebhookStore,
    endpoint_id: str,
    *,
    url: str | None = None,
    description: str | None = None,
    min_severity: Severity | None = None,
    allow: Sequence[Network] = (),
) -> Endpoint:
    """Change what is given.

    Raises
    ------
    UrlRefused
        If a webhook may not go there.
    UnknownWebhook
        If there is no such endpoint.
    """
    if url is not None:
        await _check(url, allow)
    return await asyncio.to_thread(
        store.update, endpoint_id, url=url, description=description, min_severity=min_severity
    )


async def _check(url: str, allow: Sequence[Network]) -> None:
    resolver = Resolver(threads=1)
    try:
        await check_url(url, resolver, allow)
    finally:
        resolver.close()
