"""Clients to one ClickHouse, as one user: taken for a statement, and put back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

MAX_IDLE_CLIENTS: Final = 4


class ClientPool:
    """As many clients as threads ask at once, of which a few are kept; safe to use from several threads.

    Parameters
    ----------
    connect
        Makes a client.
    translate
        Returns what to raise instead of an error of the client's.
    """

    def __init__(self, connect: Callable[[], Client], translate: Callable[[Exception], Exception]) -> None:
        self._connect = connect
        self._translate = translate
        self._idle: SimpleQueue[Client] = SimpleQueue()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Lend a client. One that failed is closed and not lent again."""
        client: Client | None = None
        try:
            with suppress(Empty):
                client = self._idle.get_nowait()
            client = client or self._connect()
            yield client
        except Exception as error:
            if client is not None:
                with suppress(Exception):  # it may be broken; the error that matters is on its way
                    client.close()
            if isinstance(error, ClickHouseError | OSError | RuntimeError):
                raise self._translate(error) from error
            raise
        if self._idle.qsize() < MAX_IDLE_CLIENTS:
            self._idle.put(client)
        else:
            client.close()

    def close(self) -> None:
        """Close every client; none may be lent."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                break
