"""Serving the HTTP API: in the worker's process, or in one of its own beside a ClickHouse server."""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from functools import partial

import structlog

from api.health import health_app
from api.serve import Server, tcp_listener
from api.trail import Seals
from api.v1.app import api_app
from api.v1.key_ring import KeyRing
from api.v1.oidc import OidcConfig
from api.v1.parts import ApiConfig, Parts
from store.database import Database
from store.privacy import Privacy, box_of
from store.seals.anchors import AnchorBook
from store.seals.keys import SealKeys
from store.webhooks import WebhookStore
from streams.event_producer import EventProducer
from streams.metrics import API_REGISTRY, exposition
from streams.webhooks.delivery import WebhookDelivery
from tenantwatch.backtest_child import run_backtest
from tenantwatch.database import open_database
from tenantwatch.settings import Settings
from tenantwatch.vault import open_privacy_if_keyed

log = structlog.get_logger()


def api_config(settings: Settings) -> ApiConfig:
    """Return what the settings say of the API."""
    return ApiConfig(
        issuer=settings.api_issuer,
        platform_tenant=settings.platform_tenant,
        cors_origins=tuple(settings.api_cors_origins),
        bodies_bytes=settings.api_bodies_mb * 1024 * 1024,
        webhook_allow=tuple(settings.webhook_allow),
        family_lifetime=timedelta(days=settings.api_sign_in_days),
        oidc=_oidc_config(settings),
    )


def _oidc_config(settings: Settings) -> OidcConfig | None:
    if settings.oidc_issuer is None:
        return None
    return OidcConfig(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        redirect_url=settings.oidc_redirect_url,
        tenant_claim=settings.oidc_tenant_claim,
        roles_claim=settings.oidc_roles_claim,
        role_map=settings.oidc_role_map,
    )


def api_listener(settings: Settings) -> socket.socket:
    """Bind the API's port.

    Raises
    ------
    PortTaken
        If another program listens there.
    """
    return tcp_listener(settings.api_host, settings.api_port, "TENANTWATCH_API_PORT")


class HttpApi:
    """The API on its port; starts last and stops first, because everything else serves it.

    Parameters
    ----------
    database, webhooks, ring
        As the rest of the process uses them.
    bootstrap
        Where Kafka is.
    listener
        Its port, see `api_listener`; closed by whoever bound it.
    privacy
        Who is behind pseudonyms; None without a master key.
    seals
        What the trail is verified with.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        webhooks: WebhookDelivery,
        ring: KeyRing,
        bootstrap: str,
        listener: socket.socket,
        privacy: Privacy | None,
        seals: Seals,
    ) -> None:
        self._producer = EventProducer(bootstrap)
        parts = Parts(api_config(settings), database, ring, self._producer, webhooks, privacy, seals)
        self.app = api_app(parts, run_backtest)
        self._server = Server(self.app, listener, settings.api_trusted_proxies)
        self.url = f"http://{settings.api_host}:{self._server.port}/v1"

    @property
    def problems(self) -> list[str]:
        """Why the API is not ready, in words; empty when it is."""
        return [] if self._producer.connected else ["kafka: has not answered yet; events wait or are dropped"]

    async def start(self) -> None:
        """Begin to serve."""
        await self._producer.start()
        await self._server.start()

    async def stop(self) -> None:
        """Answer what is open, send what waits, and close."""
        await self._server.stop()
        await self.app.state.backtests.stop()
        await self.app.state.gate.authentication.finish()
        await self._producer.stop()


async def serve_until_signal(settings: Settings, on_started: Callable[[str], None]) -> None:
    """Serve the API alone until SIGTERM or SIGINT: one of several, beside workers on a cluster."""
    brokers = settings.kafka_brokers
    assert brokers is not None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(closing(api_listener(settings)))
        health = stack.enter_context(closing(tcp_listener(settings.http_host, settings.http_port)))
        database = await asyncio.to_thread(open_database, settings)
        stack.callback(database.close)
        ring = KeyRing(settings.api_keys_path)
        privacy = await asyncio.to_thread(open_privacy_if_keyed, settings, database)
        # Not started: workers deliver. It serves to check and change endpoints.
        hooks = WebhookStore(database, secrets=box_of(privacy))
        webhooks = WebhookDelivery(hooks, allow=settings.webhook_allow)
        seal_keys = SealKeys.existing(settings.keys_dir, settings.seal_key)
        seals = Seals(seal_keys, AnchorBook(settings.seals_dir, settings.anchor_file))
        api = HttpApi(settings, database, webhooks, ring, brokers, listener, privacy, seals)
        await api.start()
        stack.push_async_callback(api.stop)
        render = partial(exposition, API_REGISTRY)
        server = Server(health_app("api", lambda: api.problems, render), health)
        await server.start()
        stack.push_async_callback(server.stop)
        log.info("api_started", url=api.url)
        on_started(api.url)
        await stop.wait()
