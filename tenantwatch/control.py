"""How a command reaches the store: through a running worker's socket, or by itself if none runs."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import httpx

from api.address import WARNING, unix_address
from tenantwatch.settings import Settings

# A store that is held by a process without a socket: a worker that starts or stops, or another command.
LOCK_WAIT_S: Final = 10.0
LOCK_POLL_S: Final = 0.1
# A little more than a query may take.
TIMEOUT_S: Final = 70.0


class ControlError(Exception):
    """The worker, or the store, refused; the message is for the person at the terminal."""


def running(settings: Settings) -> bool:
    """Return whether a worker with this data directory answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(unix_address(settings.socket_path))
    except OSError:
        return False
    return True


class Control:
    """A client of the control API; without a running worker it serves the API to itself.

    A context manager; use it from one thread.

    Parameters
    ----------
    settings
        Which data directory, and which ClickHouse.

    Attributes
    ----------
    warnings
        What answers said is to be minded, for the person at the terminal.

    Raises
    ------
    ControlError
        If no worker runs and there is nothing to open, or another process holds the store.
    """

    def __init__(self, settings: Settings) -> None:
        self.warnings: list[str] = []
        self._settings = settings
        self._runner = asyncio.Runner()
        self._close: Callable[[], None] | None = None
        self._client = httpx.AsyncClient(
            transport=self._reach(),
            base_url="http://tenantwatch",
            timeout=httpx.Timeout(TIMEOUT_S, connect=5),
        )

    def _reach(self) -> httpx.AsyncBaseTransport:
        settings = self._settings
        if settings.clickhouse is None and not settings.data_dir.exists():
            raise ControlError(
                f"there is nothing in {settings.data_dir} yet: start with `tenantwatch up`, "
                "or name another directory with TENANTWATCH_DATA_DIR"
            )
        deadline = time.monotonic() + LOCK_WAIT_S
        while not running(settings):
            transport, locked = self._own_app()
            if transport is not None:
                return transport
            if time.monotonic() > deadline:
                raise ControlError(
                    f"{locked}; it has not answered on {settings.socket_path} for {LOCK_WAIT_S:.0f} s. "
                    "A worker that starts or stops needs a moment: try again"
                )
            time.sleep(LOCK_POLL_S)
        # Nothing here is TLS: reading the certificate authorities that the machine trusts would take 50 ms.
        no_authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.AsyncHTTPTransport(uds=unix_address(settings.socket_path), verify=no_authorities)

    def _own_app(self) -> tuple[httpx.AsyncBaseTransport | None, str]:
        # Imported here: most commands find a running worker and need no engine.
        from api.control import control_app
        from api.trail import Seals
        from api.v1.key_ring import KeyRing, KeyRingError
        from store.lock import StoreLocked
        from store.seals.anchors import AnchorBook
        from store.seals.keys import SealKeys
        from store.webhooks import WebhookStore
        from streams.webhooks.delivery import WebhookDelivery
        from tenantwatch.database import open_database
        from tenantwatch.logs import configure_logging
        from tenantwatch.vault import open_privacy, open_vault

        configure_logging("error", "console")
        settings = self._settings
        try:
            database = open_database(settings)
        except StoreLocked as error:
            return None, str(error)
        self._close = database.close
        # Beside a cluster, keys made here would be good at no API process.
        ours = settings.clickhouse is None or settings.api_keys_file or settings.api_keys_path.exists()
        try:
            ring = KeyRing(settings.api_keys_path) if ours else None
        except KeyRingError as error:
            raise ControlError(str(error)) from error
        status = {
            "kafka": settings.kafka,
            "problems": ["worker: no `tenantwatch up` or `worker` runs with this data directory"],
        }
        seal_keys = SealKeys.existing(settings.keys_dir, settings.seal_key)
        book = AnchorBook(settings.seals_dir, settings.anchor_file)
        hooks = WebhookStore(database, secrets=lambda: open_vault(settings, database).webhook_secrets)
        app = control_app(
            database,
            WebhookDelivery(hooks, allow=settings.webhook_allow),
            status=lambda: status,
            webhook_allow=settings.webhook_allow,
            seals=Seals(seal_keys, book, settings.keys_elsewhere),
            privacy=lambda: open_privacy(settings, database, settings.kafka_brokers, seal_keys),
            ring=ring,
        )
        return httpx.ASGITransport(app=app), ""

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
        if self._close is not None:
            self._close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Return the answer's JSON, or its bytes where it is no JSON; parameters that are None are left out.

        Parameters
        ----------
        timeout_s
            How long the answer may take: what reads all of the trail takes as long as there are rows.

        Raises
        ------
        ControlError
            If the answer is an error.
        """
        chosen = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in (params or {}).items()
            if value is not None
        }
        try:
            answer = self._runner.run(
                self._client.request(
                    method, path, params=chosen, json=json, timeout=httpx.Timeout(timeout_s, connect=5)
                )
            )
        except httpx.HTTPError as error:
            raise ControlError(
                f"the worker did not answer ({type(error).__name__}); is it stopping?"
            ) from error
        is_json = answer.headers.get("content-type", "").partition(";")[0] == "application/json"
        if answer.is_error:
            detail = answer.json().get("detail") if is_json else None
            raise ControlError(_text(detail) or f"the worker answered {answer.status_code}")
        if told := answer.headers.get(WARNING):
            self.warnings.append(told)
        if not answer.content:
            return None
        return answer.json() if is_json else answer.content

    def get(self, path: str, **params: Any) -> Any:
        """GET a path; parameters that are None are left out."""
        return self.request("GET", path, params=params)


def kafka_bootstrap(settings: Settings) -> str:
    """Return where Kafka is: what the settings say, else what the running worker says.

    Raises
    ------
    ControlError
        If neither says it.
    """
    if (brokers := settings.kafka_brokers) is not None:
        return brokers
    if running(settings):
        with Control(settings) as control:
            return str(control.get("/status")["kafka"])
    if settings.kafka_port == 0:
        raise ControlError(
            f"no worker runs with the data directory {settings.data_dir}, so its Kafka does not either: "
            "start `tenantwatch up`, or set TENANTWATCH_KAFKA=host:port"
        )
    return f"127.0.0.1:{settings.kafka_port}"


def _text(detail: Any) -> str:
    if isinstance(detail, list):  # FastAPI's validation errors
        return "; ".join(f"{'.'.join(map(str, entry['loc'][1:]))}: {entry['msg']}" for entry in detail)
    return str(detail or "")
