"""The HTTP API as it is served, on a port of its own, with a clock moved by hand and a memory for a Kafka."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from api.serve import Server, tcp_listener
from api.trail import Seals
from api.v1.app import api_app
from api.v1.key_ring import KeyRing
from api.v1.keys import KeyDesk
from api.v1.parts import ApiConfig, Parts
from api.v1.signatures import SCHEME, sign, signed_text, signing_key
from schemas.alert import Alert
from schemas.tenant import RateLimit, Tenant
from store.api_keys import ApiKeys
from store.database import Database
from store.master_key import KEY_BYTES, LocalMasterKey, MasterKeys
from store.privacy import Privacy, box_of
from store.revocations import Revocations
from store.seals.anchors import AnchorBook
from store.seals.keys import SealKeys
from store.vault import Vault
from store.webhooks import WebhookStore
from streams.directory import Entry
from streams.tenant_rows import tenant_row
from streams.webhooks.delivery import WebhookDelivery

PLATFORM_TENANT = "platform"
# All tests that share a store need the same.
MASTERS = MasterKeys(LocalMasterKey(b"m" * KEY_BYTES))
PLENTY = RateLimit(requests=100_000, window_s=60)
# A client reads every certificate authority that the machine trusts unless it is given a context: 50 ms each.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class RecordingProducer:
    """Stands for `EventProducer` where nothing crosses a wire: what was sent is looked at here."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.alerts: list[Alert] = []
        # What callers sent, apart from what the API tells of itself.
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.messages = 0
        # Tenants with a change in Kafka that no worker has taken up.
        self.changing: set[str] = set()

    def offer(self, kind: str, tenant_id: str, value: bytes) -> bool:
        self.events.append((kind, tenant_id, json.loads(value)))
        return True

    def offer_alert(self, alert: Alert) -> None:
        self.alerts.append(alert)

    async def send_tenant(self, tenant_id: str, tenant: Tenant | None) -> None:
        entry = None if tenant is None else Entry(tenant, new_version())
        self.database.insert_rows("tenants", [tenant_row(tenant_id, entry, new_version())])

    async def tenant_changed(self, tenant_id: str, version: int) -> bool:
        return tenant_id in self.changing

    async def send(self, kind: str, tenant_id: str, value: bytes) -> tuple[int, int]:
        sent = json.loads(value)
        self.sent += [(kind, tenant_id, each) for each in (sent if isinstance(sent, list) else [sent])]
        self.messages += 1
        return 0, self.messages - 1

    def of(self, kind: str, tenant_id: str) -> list[dict[str, Any]]:
        """Return the events of a kind in a tenant's trail."""
        return [event for k, t, event in self.events if (k, t) == (kind, tenant_id)]


class Clock:
    """The wall clock and the monotonic one, moved by hand."""

    def __init__(self) -> None:
        self.passed = timedelta(0)
        self._started = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self._started + self.passed

    def monotonic_s(self) -> float:
        return self.passed.total_seconds()

    def pass_(self, **duration: float) -> None:
        """Let time pass; the arguments are those of `timedelta`."""
        self.passed += timedelta(**duration)


@dataclass
class RunningApi:
    """A running API.

    Parameters
    ----------
    url
        Without ``/v1``.
    produced
        What it sent.
    """

    url: str
    parts: Parts
    produced: RecordingProducer
    clock: Clock
    app: Any
    _clients: list[httpx.Client] = field(default_factory=list)

    def client(self, credentials: str | None = None, **headers: str) -> httpx.Client:
        """Return a client, with a bearer's credentials or without."""
        told = {"Authorization": f"Bearer {credentials}"} if credentials else {}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        hooks = {"response": [self._await_trail]}
        client = httpx.Client(
            base_url=self.url, headers=told | given, timeout=30, event_hooks=hooks, verify=NO_AUTHORITIES
        )
        self._clients.append(client)
        return client

    def _await_trail(self, response: httpx.Response) -> None:
        """Wait until the trail has a request: the last that is told, and after it was answered."""
        if response.status_code == 429 or response.request.url.path == "/v1/health":
            return  # not told
        request_id = response.headers["x-request-id"]
        deadline = time.monotonic() + 10
        while not any(
            kind == "request" and event["trace_id"] == request_id
            for kind, _, event in reversed(self.produced.events)
        ):
            assert time.monotonic() < deadline, f"no event of request {request_id}"
            time.sleep(0.001)

    def key(
        self,
        tenant_id: str,
        *roles: str,
        permissions: tuple[str, ...] = (),
        days: int = 30,
        name: str = "test",
    ) -> str:
        """Make an API key, as the command line does, and return its text; tenant '' is the platform."""
        desk = KeyDesk(ApiKeys(self.parts.database), Revocations(self.parts.database), self.parts.ring)
        made = desk.create(
            tenant_id=tenant_id,
            name=name,
            roles=roles,
            permissions=permissions,
            days=days,
            created_by="test",
            now=self.clock.now(),
        )
        return made.secret

    def token(self, key: str, **form: str) -> httpx.Response:
        """Ask for tokens with a key's client credentials."""
        fields = {"grant_type": "client_credentials", "client_id": key.split("_")[1], "client_secret": key}
        return self.client().post("/v1/oauth/token", data=fields | form)


def add_tenant(database: Database, tenant_id: str, **fields: Any) -> None:
    """Put a tenant into the directory's table, as a worker does."""
    described = {"organization_id": f"org-{tenant_id}", "name": tenant_id, "rate_limit": PLENTY} | fields
    tenant = Tenant.model_validate({"tenant_id": tenant_id, **described})
    version = new_version()
    database.insert_rows("tenants", [tenant_row(tenant_id, Entry(tenant, version), version)])


def new_version() -> int:
    """Return an offset as ``audit.tenants`` would have, later than all before."""
    return time.monotonic_ns()


def authorization(
    secret: str, method: str, target: str, body: bytes, timestamp: int, nonce: str, tenant: str = ""
) -> str:
    """Return the header ``Authorization`` of a signed request: what a client computes.

    Parameters
    ----------
    secret
        The whole API key, ``tw_…``.
    """
    text = signed_text(method, target, tenant, body, timestamp, nonce)
    key_id = secret.split("_")[1]
    signature = sign(signing_key(secret), text)
    return f"{SCHEME} KeyId={key_id},Timestamp={timestamp},Nonce={nonce},Signature={signature}"


async def run_backtest(tenant_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Stand for the child process, of which tests/test_api_backtests.py has the real one."""
    return {"alerts": []}


@contextmanager
def running_api(
    database: Database, directory: Path, config: ApiConfig | None = None, *, privacy: bool = True
) -> Iterator[RunningApi]:
    """Serve the API with uvicorn in a thread of its own."""
    clock, produced = Clock(), RecordingProducer(database)
    rights = Privacy(database, Vault(database, MASTERS)) if privacy else None
    parts = Parts(
        config
        or ApiConfig(
            platform_tenant=PLATFORM_TENANT,
            failure_limit=PLENTY,
            stranger_limit=PLENTY,
            platform_limit=PLENTY,
            webhook_allow=(ip_network("127.0.0.0/8"),),
        ),
        database,
        KeyRing(directory / "api-keys.json"),
        produced,  # type: ignore[arg-type]
        WebhookDelivery(WebhookStore(database, secrets=box_of(rights)), allow=[ip_network("127.0.0.0/8")]),
        rights,
        Seals(SealKeys(directory / "keys"), AnchorBook(directory / "seals")),
        clock=clock.now,
        monotonic_s=clock.monotonic_s,
    )
    app = api_app(parts, run_backtest)
    with served(app) as (url, run):
        running = RunningApi(url, parts, produced, clock, app)
        try:
            yield running
        finally:
            for client in running._clients:
                client.close()
            run(app.state.gate.authentication.finish())


@contextmanager
def served(app: FastAPI) -> Iterator[tuple[str, Callable[[Coroutine[Any, Any, Any]], Any]]]:
    """Serve an app in a thread; yields its address, and what runs a coroutine on its loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api", daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    listener = tcp_listener("127.0.0.1", 0)
    server = Server(app, listener)
    run(server.start())
    try:
        yield f"http://127.0.0.1:{server.port}", run
    finally:
        run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        listener.close()
