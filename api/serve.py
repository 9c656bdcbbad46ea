"""Serving apps on the worker's event loop: over TCP, and over a UNIX socket of any path length."""

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from api.address import unix_address


class PortTaken(Exception):
    """The port is in use; the message names the setting that changes it."""


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the worker, which stops its parts in order."""
        yield


class Server:
    """One app on one listening socket, on the running event loop.

    Parameters
    ----------
    trusted_proxies
        Addresses whose ``X-Forwarded-For`` says where a request came from; nobody's by default.
    """

    def __init__(self, app: FastAPI, listener: socket.socket, trusted_proxies: Sequence[str] = ()) -> None:
        # Signals belong to the worker; access logs of a health port say nothing.
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=2,
            server_header=False,
            # Without this uvicorn believes whoever connects from this machine.
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=[*trusted_proxies],
        )
        self._server = _Uvicorn(config)
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port that was bound."""
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Begin to serve; returns once connections are accepted."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the HTTP server ended while it started")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Finish open requests for a moment, then close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def tcp_listener(host: str, port: int, setting: str = "TENANTWATCH_HTTP_PORT") -> socket.socket:
    """Bind a TCP port.

    Parameters
    ----------
    setting
        What changes the port, for the error.

    Raises
    ------
    PortTaken
        If another program listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio turn TCP_NODELAY on: else an answer's body waits 40 ms for
    # its head to be acknowledged.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with {setting}, "
            "0 takes a free one"
        ) from error
    listener.listen(128)
    return listener


def unix_listener(path: Path) -> socket.socket:
    """Bind a UNIX socket that only its owner can use, in place of one that a killed process left behind."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(unix_address(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener
