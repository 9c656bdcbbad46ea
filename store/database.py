"""The connection to ClickHouse: its engine in this process, or a server; the same SQL for both."""

import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlencode, urlsplit
from uuid import uuid4

import clickhouse_connect
from clickhouse_connect.driver.binding import str_query_value
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from store.clients import ClientPool
from store.engine import chdb
from store.lock import lock
from store.memory_file import in_memory
from store.private import taken_apart

DATABASE: Final = "tenantwatch"
# An insert takes a fraction of a second; one without an answer is read back and tried again.
INSERT_TIMEOUT_S: Final = 30
MAX_INSERT_BYTES: Final = 1 << 30
QUERY_SETTINGS: Final[dict[str, Any]] = {
    # Cancelling an await does not cancel a query, so every query has an end of its own.
    "max_execution_time": 60,
}
# Alerts lie by the month of their time, and an imported log has many: by default more than 100 are refused.
_INSERT_SETTINGS: Final[dict[str, Any]] = {"max_partitions_per_insert_block": 0}
# The parameter of a query that is bound to one tenant (`store.queries.TenantContext`): whose rows it may see.
SCOPE_TENANT: Final = "scope_tenant_id"

# Error codes that say that our SQL or our columns are wrong; trying again cannot help.
_OUR_FAULT: Final = frozenset(
    {6, 8, 10, 15, 16, 20, 27, 36, 38, 41, 42, 43, 44, 46, 47, 49, 53, 57, 60, 62, 70, 81, 117, 184, 349, 636}
)
_ENGINE_CONFIG: Final = Path(__file__).with_name("embedded.xml")
_CODE: Final = re.compile(r"(?:Code:|error code) ?(\d+)")


class StoreError(Exception):
    """The store refused a statement, and would refuse it again: our SQL or our columns are wrong."""


class StoreUnavailable(Exception):
    """The store cannot take a statement now; nothing was acknowledged, try again later.

    An insert that ends so may have been stored all the same, in part or whole: what is there must be read
    before it is tried again.
    """


class Fenced(Exception):
    """Another worker has claimed a partition of these rows since; nothing was stored, and must not be."""


# FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: only a guard throws it.
_FENCED: Final = 395


def _translate(error: Exception) -> Exception:
    text = str(error)
    found = _CODE.search(text)
    code = int(found.group(1)) if found else 0
    if code == _FENCED:
        return Fenced(text)
    return StoreError(text) if code in _OUR_FAULT else StoreUnavailable(text)


def _time_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    raise TypeError(f"cannot store a {type(value).__name__}")


@dataclass(frozen=True)
class Guard:
    """What a server checks before it takes an insert.

    Parameters
    ----------
    refused_if
        An SQL expression; the insert is refused where it is true. Each ``{name}`` stands for a parameter.
    parameters
        Their values, quoted as ClickHouse's client does.
    query_id
        Of the insert, so that another worker can end it.
    """

    refused_if: str
    parameters: Mapping[str, Any]
    query_id: str


class Inserter(Protocol):
    """Takes a block of rows in an input format of ClickHouse and returns once it is durable."""

    def __call__(
        self, table: str, columns: Sequence[str], payload: bytes, fmt: str, guard: Guard | None
    ) -> None: ...


def _options(url: str) -> dict[str, Any]:
    """Return what a client is made with, but for the database."""
    parts = urlsplit(url)
    return {
        "interface": parts.scheme,
        "host": parts.hostname,
        "port": parts.port or (8443 if parts.scheme == "https" else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        # Sessions would serialise the queries of one client, and nothing here needs them.
        "autogenerate_session_id": False,
        "tz_mode": "aware",
    }


def _database_of(url: str) -> str:
    return urlsplit(url).path.strip("/") or DATABASE


def _reader(url: str) -> Callable[[], Client]:
    """Return what connects as the reader, after a try: a wrong password must show at the start."""

    def connect() -> Client:
        # It may set nothing: what `QUERY_SETTINGS` say is in its profile.
        return clickhouse_connect.get_client(**_options(url), database=_database_of(url))

    connect().close()
    return connect


class Database:
    """Clients to one ClickHouse; safe to use from several threads.

    Every method blocks: on an event loop, call it through ``asyncio.to_thread``.

    Raises
    ------
    StoreError
        From every method, if a statement is wrong.
    StoreUnavailable
        From every method, if the store does not answer, is full or is shutting down.
    """

    def __init__(
        self, connect: Any, insert: Inserter, close: Any, description: str, connect_reader: Any = None
    ) -> None:
        self._clients = ClientPool(connect, _translate)
        self._readers = ClientPool(connect_reader, _translate) if connect_reader else None
        self._insert = insert
        self._close = close
        self.description = description
        # Whether other workers may write here too.
        self.shared = False

    @classmethod
    def embedded(cls, path: Path) -> "Database":
        """Open ClickHouse's engine in this process, with its data in a directory.

        Raises
        ------
        StoreLocked
            If another process has it open.
        """
        path.mkdir(parents=True, exist_ok=True)
        path = path.resolve()  # one client of the engine follows links, and then the other's path is another
        # The engine refuses a second process too, but says why only on standard error.
        held = lock(path.with_name(f"{path.name}.lock"))
        config = {"config-file": str(_ENGINE_CONFIG)}
        options: dict[str, Any] = {
            "interface": "chdb",
            "path": str(path),
            "chdb_options": config,
            "tz_mode": "aware",
        }
        try:
            first = clickhouse_connect.get_client(**options)
        except Exception as error:
            held.close()
            raise _translate(error) from error
        first.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        first.close()
        handle = chdb.connect(f"{path}?{urlencode(config)}")  # type: ignore[no-untyped-call]
        for name, value in _INSERT_SETTINGS.items():
            handle.query(f"SET {name} = {value}")
        inserting = threading.Lock()

        def insert(table: str, columns: Sequence[str], payload: bytes, fmt: str, guard: Guard | None) -> None:
            # No guard is needed: the lock keeps every other process out. The rows go by way of a file that is
            # in memory only: clickhouse-connect's insert writes them to a temporary file in plain text, and
            # chdb's `send_insert` reports success where the disk is full and nothing was stored (4.4.0).
            with inserting, in_memory(payload) as file:
                handle.query(
                    f"INSERT INTO {DATABASE}.{table} ({', '.join(columns)}) FROM INFILE '{file}' FORMAT {fmt}"
                )

        def connect() -> Client:
            return clickhouse_connect.get_client(**options, database=DATABASE, settings=QUERY_SETTINGS)

        def close() -> None:
            handle.close()
            held.close()

        return cls(connect, insert, close, f"embedded ClickHouse in {path}")

    @classmethod
    def server(cls, url: str, reader_url: str | None = None) -> "Database":
        """Connect to a ClickHouse server.

        Parameters
        ----------
        url
            ``http[s]://user:password@host:port/database``.
        reader_url
            The same of a user whose row policies go by the tenant that a query's id begins with
            (``deploy/clickhouse/users.d/reader.xml``). It gets the queries that are bound to a tenant;
            without it their own conditions are the only wall.
        """
        options, name = _options(url), _database_of(url)

        def connect(**more: Any) -> Client:
            return clickhouse_connect.get_client(**options, **more, database=name, settings=QUERY_SETTINGS)

        try:
            with clickhouse_connect.get_client(**options, database="default") as first:
                first.command(f"CREATE DATABASE IF NOT EXISTS `{name}`")
            writer = connect(send_receive_timeout=INSERT_TIMEOUT_S)
            connect_reader = _reader(reader_url) if reader_url else None
        except (ClickHouseError, OSError) as error:
            raise _translate(error) from error
        types: dict[str, dict[str, str]] = {}

        def structure(table: str, columns: Sequence[str]) -> str:
            if table not in types:
                described = writer.query(f"DESCRIBE TABLE {table}").named_results()
                types[table] = {row["name"]: row["type"] for row in described}
            return ", ".join(f"{column} {types[table][column]}" for column in columns)

        def insert(table: str, columns: Sequence[str], payload: bytes, fmt: str, guard: Guard | None) -> None:
            names = ", ".join(columns)
            settings = _INSERT_SETTINGS
            if guard is None:
                sql = f"INSERT INTO {table} ({names}) FORMAT {fmt}"
            else:
                given = structure(table, columns).replace("'", "\\'")
                refused_if = guard.refused_if.format(
                    **{name: str_query_value(value) for name, value in guard.parameters.items()}
                )
                sql = (
                    f"INSERT INTO {table} ({names}) SELECT {names} FROM input('{given}') "
                    f"WHERE NOT throwIf({refused_if}, 'fenced') FORMAT {fmt}"
                )
                # So much the server reads before it begins with a query: more than the body has. So it judges
                # the guard when the last byte is there, however long the sender hung in the middle.
                settings = {**settings, "query_id": guard.query_id, "max_query_size": MAX_INSERT_BYTES}
            # As an iterator: clickhouse-connect would send bytes again when the connection breaks, although
            # the server may have taken them.
            body: Any = iter((f"{sql}\n".encode(), payload))
            writer.raw_insert(None, None, body, settings=settings)  # type: ignore[arg-type]

        database = cls(
            connect,
            insert,
            writer.close,
            f"ClickHouse at {options['interface']}://{options['host']}:{options['port']}",
            connect_reader,
        )
        database.shared = True
        return database

    def _client(self) -> AbstractContextManager[Client]:
        return self._clients.client()

    @contextmanager
    def _asking(
        self, sql: str, parameters: Mapping[str, Any] | None
    ) -> Iterator[tuple[Client, dict[str, Any]]]:
        """Lend the client that may answer a query, and what it is to be asked."""
        bound = dict(parameters or {})
        tenant_id = bound.get(SCOPE_TENANT)
        # The engine in this process writes no query down.
        asked = taken_apart(sql, bound) if self.shared else {"query": sql, "parameters": bound}
        if self._readers is None or tenant_id is None:
            with self._client() as client:
                yield client, asked
        else:
            with self._readers.client() as client:
                # The policies go by the id, because nothing in the text of a query can change it
                # (docs/decisions/0022).
                yield client, {**asked, "settings": {"query_id": f"{tenant_id}/{uuid4().hex}"}}

    def reader_is_open(self) -> bool | None:
        """Return whether the reader shows rows to who names no tenant: then it has no row policies.

        None where there is no reader. An empty directory shows nothing either way.
        """
        if self._readers is None:
            return None
        with self._readers.client() as client:
            return bool(client.query("SELECT 1 FROM tenants LIMIT 1").result_rows)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a SELECT as dictionaries.

        Parameters
        ----------
        sql
            With parameters as ``{name:Type}``; they are bound by ClickHouse, never spliced in. A server
            writes them down, but for those that begin with `store.private.PRIVATE`.
        """
        with self._asking(sql, parameters) as (client, asked):
            result = client.query(**asked)
            return [dict(row) for row in result.named_results()]

    def query_columns(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> Mapping[str, Sequence[Any]]:
        """Return the columns of a SELECT by name: for many rows; otherwise as `query`."""
        # The engine in this process names no columns where there are no rows.
        columns: defaultdict[str, Sequence[Any]] = defaultdict(tuple)
        with self._asking(sql, parameters) as (client, asked):
            result = client.query(**asked)
            columns.update(zip(result.column_names, result.result_columns, strict=False))
        return columns

    def query_arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        """Return the rows of a SELECT as an Arrow stream: to be passed on as it is."""
        return self.query_raw(sql, parameters, "ArrowStream")

    def query_raw(self, sql: str, parameters: Mapping[str, Any] | None, fmt: str) -> bytes:
        """Return the rows of a SELECT in an output format of ClickHouse."""
        with self._asking(sql, parameters) as (client, asked):
            return client.raw_query(**asked, fmt=fmt)

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement that returns no rows."""
        with self._client() as client:
            client.command(sql, parameters=dict(parameters or {}))

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        payload: bytes,
        fmt: str,
        guard: Guard | None = None,
    ) -> None:
        """Insert a block that is already encoded; returns once it is durable.

        Parameters
        ----------
        payload
            Rows of `columns` in the input format `fmt`.
        guard
            Checked by a server; the engine in this process has no other writer.

        Raises
        ------
        Fenced
            If the guard refused it.
        """
        try:
            self._insert(table, columns, payload, fmt, guard)
        except (ClickHouseError, OSError, RuntimeError) as error:
            raise _translate(error) from error

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, Any]], guard: Guard | None = None) -> None:
        """Insert a few rows given as dictionaries with the same keys; times are aware datetimes."""
        if rows:
            payload = "\n".join(json.dumps(row, default=_time_text) for row in rows).encode()
            self.insert(table, list(rows[0]), payload, "JSONEachRow", guard)

    def insert_once(self, table: str, row: Mapping[str, Any], token: str) -> None:
        """Insert a row unless one was inserted with the same token; of two at once, one is.

        Parameters
        ----------
        token
            Remembered by a table with `non_replicated_deduplication_window` (or a replicated one).
        """
        payload = json.dumps(row, default=_time_text).encode()
        settings = {"insert_deduplicate": 1, "insert_deduplication_token": token}
        with self._client() as client:
            client.raw_insert(table, list(row), payload, settings=settings, fmt="JSONEachRow")

    def close(self) -> None:
        """Close every client; nothing may be in flight."""
        self._clients.close()
        if self._readers is not None:
            self._readers.close()
        self._close()
