"""For the tests of webhooks: a real HTTP server that remembers, a clock to turn, an alert to send."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

from schemas.alert import Alert, Entity, Evidence

LOCALHOST = (ip_network("127.0.0.1/32"),)
GIVE_UP_S = 20.0  # only reached by a test that fails


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None  # answers once it is set


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """Gives the answers it was told to, then 204 for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[Answer] = []
        self.received: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps connections open, for whoever would use one again

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                answer = receiver.answers.pop(0) if receiver.answers else Answer()
                if answer.hold is not None:
                    answer.hold.wait(GIVE_UP_S)
                self.send_response(answer.status)
                if answer.status != 204:
                    self.send_header("Content-Length", "0")
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, *_: Any) -> None:
                pass  # a sender that gave up has closed the connection

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(tls)
    try:
        yield receiver
    finally:
        receiver.close()


class Clock:
    """Starts now, because receivers check timestamps, and moves only when told to."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, which may block; fail if it never comes true."""
    async with asyncio.timeout(GIVE_UP_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def alert(tenant_id: str, alert_id: str = "a-1", revision: int = 1, **fields: Any) -> Alert:
    """Return a revision: the first opens the alert, later ones update it."""
    time = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    defaults: dict[str, Any] = {
        "status": "open" if revision == 1 else "updated",
        "detector": "failed_login",
        "classification": "brute_force",
        "severity": "high",
        "entity": Entity(type="source_ip", value="192.0.2.7"),
        "first_time": time,
        "last_time": time,
        "event_count": 10,
        "score": 10.0,
        "threshold": 5.0,
        "summary": "Zehn fehlgeschlagene Anmeldungen über 192.0.2.7.",
        "evidence": Evidence(),
        "runbook": "Look at the address.",
        "detected_at": time,
    }
    return Alert(tenant_id=tenant_id, alert_id=alert_id, revision=revision, **(defaults | fields))
