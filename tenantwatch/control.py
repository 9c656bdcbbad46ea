"""How a command reaches the store: through a running worker's socket, or by itself if none runs."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import httpx

from api.serve import unix_address
from tenantwatch.settings import Settings


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
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._close: Any = None
        if running(settings):
            transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(
                uds=unix_address(settings.socket_path)
            )
        else:
            transport = self._own_app()
        self._client = httpx.AsyncClient(transport=transport, base_url="http://tenantwatch", timeout=60)

    def _own_app(self) -> httpx.AsyncBaseTransport:
        # Imported here: most commands find a running worker and need no engine.
        from api.control import control_app
        from store.webhooks import WebhookStore
        from streams.webhooks.delivery import WebhookDelivery
        from tenantwatch.up import open_database

        settings = self._settings
        database = open_database(settings)
        self._close = database.close
        status = {
            "kafka": settings.kafka or f"127.0.0.1:{settings.kafka_port}",
            "problems": ["worker: no `tenantwatch up` or `worker` runs with this data directory"],
        }
        app = control_app(
            database,
            WebhookDelivery(WebhookStore(database), allow=settings.webhook_allow),
            status=lambda: status,
            webhook_allow=settings.webhook_allow,
        )
        return httpx.ASGITransport(app=app)

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
        if self._close is not None:
            self._close()

    def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any:
        """Return the answer's JSON.

        Raises
        ------
        ControlError
            If the answer is an error.
        """
        chosen = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._runner.run(self._client.request(method, path, params=chosen, json=json))
        except httpx.HTTPError as error:
            raise ControlError(f"the worker did not answer: {error}") from error
        if answer.is_error:
            detail = answer.json().get("detail") if "json" in answer.headers.get("content-type", "") else None
            raise ControlError(_text(detail) or f"the worker answered {answer.status_code}")
        return answer.json() if answer.content else None

    def get(self, path: str, **params: Any) -> Any:
        """GET a path; parameters that are None are left out."""
        return self.request("GET", path, params=params)


def _text(detail: Any) -> str:
    if isinstance(detail, list):  # FastAPI's validation errors
        return "; ".join(f"{'.'.join(map(str, entry['loc'][1:]))}: {entry['msg']}" for entry in detail)
    return str(detail or "")
