"""One attempt: resolve, check, connect to what was checked, post, read the status."""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import httpx

from streams.webhooks.address import (
    Address,
    Network,
    Resolve,
    Target,
    UrlRefused,
    parse_url,
    public_addresses,
)
from streams.webhooks.schedule import parse_retry_after

LIMIT_S: Final = 15.0  # of a whole attempt, names, connections and answer included
CONNECT_LIMIT_S: Final = 5.0  # of one address, so that a dead one leaves time for the next
_USER_AGENT: Final = "tenantwatch-webhooks/1"


@dataclass(frozen=True)
class AttemptResult:
    """What came of an attempt.

    Attributes
    ----------
    http_status
        0 when no answer came.
    error
        Why it is not a success; empty when it is. Nothing of the answer's content is in it.
    retry_after_s
        What the receiver asked for, not capped.
    """

    http_status: int
    duration_ms: int
    error: str
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Say whether the receiver took it: an answer of 2xx and nothing else."""
        return 200 <= self.http_status < 300


class Sender:
    """Posts messages; close it when done.

    Parameters
    ----------
    allow
        Networks that may be reached although they are not public.
    limit_s
        Time limit of one attempt.
    tls
        Trusted authorities, if not the usual ones.
    """

    def __init__(
        self,
        *,
        allow: Sequence[Network] = (),
        limit_s: float = LIMIT_S,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._limit_s = limit_s
        self._resolver = Resolver()
        self._resolve: Resolve = resolve or self._resolver
        # The transport, not the client: a client would follow the environment's proxies and carry
        # cookies from one tenant's receiver to another's behind the same address. Connections are not
        # kept either, for they are pooled by address and TLS was verified for one name only.
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls or True,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> AttemptResult:
        """Post `body` to `url` once; whatever goes wrong is in the result."""
        started = time.perf_counter()
        status, error, retry_after_s = 0, "", None
        try:
            async with asyncio.timeout(self._limit_s):
                target = parse_url(url)
                addresses = await public_addresses(target, self._resolve, self._allow)
                response = await self._post(target, addresses, headers, body)
                # The status says it all. The body is not read, so it can neither be long nor be slow.
                await response.aclose()
            status = response.status_code
            if not 200 <= status < 300:
                error = f"HTTP {status}"
                retry_after_s = parse_retry_after(response.headers.get("retry-after", ""), time.time())
        except UrlRefused as refused:
            error = f"refused: {refused}"
        except TimeoutError:
            error = f"no answer within {self._limit_s:g} s"
        # OSError too: what breaks TLS after the handshake comes through as it is. So does the alert of a
        # receiver that wants a certificate of ours.
        except (httpx.TransportError, OSError) as failure:
            error = _describe(failure)
        return AttemptResult(status, round(1000 * (time.perf_counter() - started)), error, retry_after_s)

    async def _post(
        self, target: Target, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        for address in addresses[:-1]:
            # Nothing was sent yet when connecting fails, so the next address may be tried.
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._post_to(address, target, headers, body)
        return await self._post_to(addresses[-1], target, headers, body)

    async def _post_to(
        self, address: Address, target: Target, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        request = httpx.Request(
            "POST",
            httpx.URL(
                scheme=target.scheme, host=str(address), port=target.port, raw_path=target.path.encode()
            ),
            headers={
                "host": target.host_header,
                "user-agent": _USER_AGENT,
                "content-type": "application/json",
                **headers,
            },
            content=body,
            # TLS asks for, and verifies, the name and not the address that is dialled.
            extensions={"sni_hostname": target.host, "timeout": {"connect": CONNECT_LIMIT_S}},
        )
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._transport.aclose()
        self._resolver.close()


class Resolver:
    """The system's resolver, in threads of its own.

    A lookup cannot be cancelled; in the event loop's own threads, a few slow name servers would hold up
    the store.
    """

    def __init__(self, threads: int = 32) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="webhook-resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, in the order to try them."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    def close(self) -> None:
        """Give up waiting lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _describe(failure: Exception) -> str:
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'handshake failed'}"
        cause = cause.__cause__ or cause.__context__
    # By type, not by text: the text of a protocol error quotes what the receiver sent.
    told: dict[type[Exception], str] = {
        httpx.ConnectError: "connection refused or unreachable",
        httpx.ConnectTimeout: f"no connection within {CONNECT_LIMIT_S:g} s",
        httpx.ReadError: "connection broke before the answer",
        httpx.WriteError: "connection broke before the answer",
        httpx.RemoteProtocolError: "the answer is not HTTP, or none came",
    }
    return told.get(type(failure), type(failure).__name__)
