"""What a service calls."""

from __future__ import annotations

import atexit
import datetime
import os
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

from .delivery import Delivery, Item, check_options
from .events import KINDS, encode, new_event_id, rfc3339, schema_of
from .outbox import OnFull, Outbox, Stats
from .validation import InvalidEvent

_emitters: weakref.WeakSet[Emitter] = weakref.WeakSet()


class Emitter:
    """Sends a service's audit events to Kafka, without making the service wait for Kafka.

    An event is checked, given its id and put into a queue in memory; a thread delivers it, as often as it
    takes. Make one emitter for the process, at import; it connects with the first event. It may be used
    from any thread, and a forked child gets a queue, thread and connection of its own.

    Parameters
    ----------
    bootstrap_servers
        Kafka's addresses, ``host:port``, one or several.
    service
        Who reports, e.g. ``billing-api``.
    topic_prefix
        Topics are ``audit.auth``, ``audit.access`` and ``audit.request``; this replaces ``audit``. They
        must exist.
    max_queued_events, max_queued_bytes
        Bounds of the queue. An event costs its bytes and 250 more.
    on_full
        When the queue is full: ``drop`` the new event, counting and logging it, since a login must not fail
        because the audit trail is away; ``block`` until there is room, for a job that would rather wait;
        ``raise`` `QueueFull`.
    on_invalid
        When an event breaks the contract: ``raise`` `InvalidEvent`, so that tests find it, or ``log`` and
        count it, for production.
    linger_ms
        How long an event waits for others to travel with.
    exit_timeout_s
        How long the process may be kept from exiting by events that Kafka does not have yet.
    **kafka
        More options of ``kafka.KafkaProducer``, e.g. ``security_protocol`` and ``compression_type="gzip"``.

    Raises
    ------
    ValueError
        If an argument is wrong. An absent Kafka raises nothing, neither here nor later.

    Examples
    --------
    >>> audit = Emitter("kafka.example.com:9092", service="billing-api")
    >>> audit.stats().queued
    0
    >>> audit.auth("tenant-a", action="login")
    Traceback (most recent call last):
    ...
    tenantwatch_emitter.validation.InvalidEvent: outcome: missing; fix: add the field
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        service: str,
        *,
        topic_prefix: str = "audit",
        max_queued_events: int = 10_000,
        max_queued_bytes: int = 64 * 1024 * 1024,
        on_full: OnFull = "drop",
        on_invalid: Literal["raise", "log"] = "raise",
        linger_ms: float = 5,
        exit_timeout_s: float = 5.0,
        **kafka: Any,
    ) -> None:
        if on_full not in ("drop", "block", "raise"):
            raise ValueError(f"on_full={on_full!r}; fix: pass 'drop', 'block' or 'raise'")
        if on_invalid not in ("raise", "log"):
            raise ValueError(f"on_invalid={on_invalid!r}; fix: pass 'raise' or 'log'")
        if not bootstrap_servers:
            raise ValueError(
                "bootstrap_servers is empty; fix: pass Kafka's address, like kafka.example.com:9092"
            )
        check_options(kafka)
        for kind in KINDS:  # a wheel without schemas must fail here, not at the first event
            for problem in schema_of(kind).properties["service"].problems(service, ("service",)):
                raise InvalidEvent([str(problem)])
        self._service = service
        self._topic_prefix = topic_prefix
        self._on_full: OnFull = on_full
        self._on_invalid = on_invalid
        self._exit_timeout_s = exit_timeout_s
        self._outbox = Outbox(
            Delivery(bootstrap_servers, {"client_id": service, **kafka}),
            max_events=max_queued_events,
            max_bytes=max_queued_bytes,
            linger_s=linger_ms / 1000,
        )
        _emitters.add(self)
        atexit.register(self.close)

    def auth(self, tenant_id: str, **fields: Any) -> str:
        """Report that somebody proved, or failed to prove, who they are.

        Parameters
        ----------
        tenant_id
            The tenant the event belongs to.
        **fields
            Fields of the contract: ``action`` and ``outcome``, and what else is known. ``event_id``,
            ``time`` (text or an aware datetime) and ``service`` are filled in where they are not given.

        Returns
        -------
        str
            The event's id. It is no receipt: `stats` and `flush` tell what arrived.

        Raises
        ------
        InvalidEvent
            If the event breaks the contract, unless ``on_invalid="log"``.
        QueueFull
            If the queue is full and ``on_full="raise"``.
        """
        return self._emit("auth", tenant_id, fields)

    def access(self, tenant_id: str, **fields: Any) -> str:
        """Report that somebody touched a resource, or was denied; otherwise as `auth`."""
        return self._emit("access", tenant_id, fields)

    def request(self, tenant_id: str, **fields: Any) -> str:
        """Report that the service answered an HTTP request; otherwise as `auth`."""
        return self._emit("request", tenant_id, fields)

    def _emit(self, kind: str, tenant_id: str, fields: dict[str, Any]) -> str:
        event = {"kind": kind, "tenant_id": tenant_id, **fields}
        if event.get("event_id") is None:
            event["event_id"] = new_event_id()
        if event.get("time") is None:
            event["time"] = rfc3339(datetime.datetime.now(datetime.timezone.utc))
        if event.get("service") is None:
            event["service"] = self._service
        try:
            value = encode(kind, event)
        except InvalidEvent as error:
            if self._on_invalid == "raise":
                raise
            self._outbox.count_invalid()
            self._outbox.warn("event_rejected", f"kind={kind} problems={str(error)!r}")
        else:
            self._outbox.put(Item(f"{self._topic_prefix}.{kind}", tenant_id.encode(), value), self._on_full)
        return str(event["event_id"])

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until Kafka has every queued event.

        Parameters
        ----------
        timeout_s
            How long at most; None waits as long as it takes.

        Returns
        -------
        bool
            Whether the queue is empty.
        """
        return self._outbox.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush and end; happens by itself when the process exits. Events that come later are dropped.

        Parameters
        ----------
        timeout_s
            How long at most; ``exit_timeout_s`` if None.

        Returns
        -------
        bool
            Whether Kafka has every event that was queued. What it does not have is lost, counted and logged.
        """
        atexit.unregister(self.close)
        return self._outbox.close(self._exit_timeout_s if timeout_s is None else timeout_s)

    def stats(self) -> Stats:
        """Return how many events were sent, are queued, or were lost, and to what."""
        return self._outbox.stats()

    def __enter__(self) -> Emitter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _renew_after_fork() -> None:
    for emitter in _emitters:
        emitter._outbox = emitter._outbox.empty_copy()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_after_fork)
