"""A webhook receiver as a customer would write one: it verifies signatures and knows repeats by their id."""

import hmac
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from schemas.alert import Alert
from streams.webhooks.signing import sign

# Standard Webhooks: a message that is older may be a recording played again.
TOLERANCE_S: Final = 5 * 60
MAX_BODY_BYTES: Final = 1024 * 1024


def verified(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """Say whether a message is signed with the secret, and was just now.

    Parameters
    ----------
    secret
        As `tenantwatch webhooks add` showed it.
    headers
        By lower-case name.
    now_s
        Seconds since 1970.

    >>> signature = sign("whsec_c2VjcmV0", "msg_1", 60, b"{}")
    >>> headers = {"webhook-id": "msg_1", "webhook-timestamp": "60", "webhook-signature": signature}
    >>> verified("whsec_c2VjcmV0", headers, b"{}", 61.0), verified("whsec_c2VjcmV0", headers, b"{ }", 61.0)
    (True, False)
    """
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp", "")
    if not message_id or not timestamp.isdecimal() or abs(now_s - int(timestamp)) > TOLERANCE_S:
        return False
    expected = sign(secret, message_id, int(timestamp), body)
    # More than one while a secret is rotated.
    signatures = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(given.encode(), expected.encode()) for given in signatures)


class Receiver:
    """An HTTP server on the loopback address; a context manager.

    Attributes
    ----------
    secrets
        Path to the secret of the endpoint that posts there.
    alerts
        Path to the alert revisions that were received there, by ``webhook-id``.
    refused
        Messages whose signature did not verify.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.alerts: dict[str, dict[str, Alert]] = {}
        self.refused = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def url(self, path: str) -> str:
        """Return where an endpoint posts to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Take one message and return the HTTP status to answer with."""
        secret = self.secrets.get(path)
        if secret is None:
            return 404
        if not verified(secret, headers, body, time.time()):
            with self._lock:
                self.refused += 1
            return 401
        alert = Alert.model_validate(json.loads(body)["data"])
        with self._lock:
            self.alerts.setdefault(path, {})[headers["webhook-id"]] = alert
        return 204

    def received(self, path: str) -> list[Alert]:
        """Return what was verified at a path, each message once."""
        with self._lock:
            return list(self.alerts.get(path, {}).values())

    @property
    def count(self) -> int:
        """How many different messages were verified."""
        with self._lock:
            return sum(map(len, self.alerts.values()))

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            if length > MAX_BODY_BYTES:
                self.send_error(413)
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.take(self.path, headers, self.rfile.read(length)))
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
