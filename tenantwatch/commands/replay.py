"""Sending the events of a file to Kafka."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.input import File, Source, opened
from tenantwatch.commands.output import AsJson, complain, fail, note, print_json
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from streams.producer import Sender
    from tenantwatch.replay import Message

INVALID_SHOWN = 10
NAMES_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(replay)


def replay(
    file: File,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Times real time, by the events' time; without it, as fast as Kafka takes them."
        ),
    ] = None,
    create_tenants: Annotated[
        bool,
        typer.Option(
            help="Add tenants that the directory does not hold, with default settings, before their events."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Send events to Kafka: each line an event, or an array of events of one kind and tenant.

    Lines that name no kind or tenant are not sent; exit code 1 if there were any.
    """
    from streams.producer import Sender
    from tenantwatch.control import kafka_bootstrap

    settings = Settings()
    bootstrap = kafka_bootstrap(settings)
    with opened(file) as source, Sender(bootstrap) as sender:
        sending = _Sending(sender, source)
        with _newcomers(settings, bootstrap, sender, create_tenants) as admit, sending.reported(as_json):
            sending.run(admit, speed)
    raise typer.Exit(1 if sending.invalid else 0)


class _Sending:
    """One replay, and what became of it."""

    def __init__(self, sender: "Sender", source: Source) -> None:
        self.invalid = 0
        self._sender = sender
        self._source = source
        self._line = 0

    def run(self, admit: Callable[[set[str]], None], speed: float | None) -> None:
        from tenantwatch.replay import Pace

        sender = self._sender
        pace = Pace(speed, sender.send_queued, time.monotonic, time.sleep) if speed else None
        for lines in self._source.blocks():
            messages = list(self._messages(lines))
            admit({message.tenant_id for message in messages})
            for kind, tenant_id, value, events, at in messages:
                if pace is not None:
                    pace.wait(at)
                if events is None:
                    sender.event(kind, tenant_id, value)
                else:
                    sender.message(kind, tenant_id, value, events)
            if self._source.size is None:
                sender.send_queued()  # the next line may be long in coming
        sender.flush()

    def _messages(self, lines: list[bytes]) -> "Iterator[Message]":
        from tenantwatch.replay import route

        for line in lines:
            self._line += 1
            if not line or line.isspace():
                continue
            try:
                yield route(line)
            except ValueError as error:
                self.invalid += 1
                if self.invalid <= INVALID_SHOWN:
                    complain(f"line {self._line}: not sent: {error}")

    @contextmanager
    def reported(self, as_json: bool) -> Iterator[None]:
        """Say at the end what was sent, also when it was interrupted."""
        started = time.monotonic()
        try:
            yield
        except KeyboardInterrupt:
            self._sender.flush()  # it was due
            raise
        finally:
            seconds = time.monotonic() - started
            sent, messages = self._sender.acknowledged, self._sender.messages
            if self.invalid:
                complain(f"{self.invalid:,} lines were not sent; `tenantwatch validate` says why")
            note(
                f"sent {sent:,} events in {messages:,} messages in {seconds:.1f} s "
                f"({sent / max(seconds, 1e-9):,.0f} events/s)"
            )
            if as_json:
                result = {
                    "sent": sent,
                    "messages": messages,
                    "seconds": round(seconds, 3),
                    "invalid": self.invalid,
                }
                print_json(result)


@contextmanager
def _newcomers(
    settings: Settings, bootstrap: str, sender: "Sender", create: bool
) -> Iterator[Callable[[set[str]], None]]:
    """Yield what to call with tenants before their events are sent: those that are new are added or named."""
    from streams.tenant_log import TenantLog
    from tenantwatch.replay import Newcomers

    log = TenantLog(bootstrap)

    def known() -> set[str]:
        log.refresh()
        return log.tenant_ids

    newcomers = Newcomers(known)

    def admit(tenant_ids: set[str]) -> None:
        new = newcomers.among(tenant_ids)
        if new and create:
            _create(settings, sender, new)
        elif new:
            complain(
                f"{_names(new)}: not in the directory, so their events will be dead letters; "
                "add them with `tenantwatch tenants apply FILE`",
                kind="warning",
            )

    try:
        yield admit
    finally:
        log.close()


def _create(settings: Settings, sender: "Sender", tenant_ids: list[str]) -> None:
    from schemas.tenant import unknown_tenant
    from tenantwatch.directory import await_directory

    sender.tenants([unknown_tenant(tenant_id) for tenant_id in tenant_ids])
    sender.flush()

    def done(found: dict[str, Any]) -> bool:
        return len(found) == len(tenant_ids)

    # The directory lags behind Kafka's acknowledgement, and an event that overtakes it is a dead letter.
    if await_directory(settings, tenant_ids, done) is False:
        raise fail(
            f"the running worker has not taken up the new tenants {_names(tenant_ids)}, so none of their "
            "events were sent; `tenantwatch status` shows what it waits for"
        )
    note(f"added with default settings: {_names(tenant_ids)}; `tenantwatch tenants apply FILE` changes them")


def _names(tenant_ids: list[str]) -> str:
    more = len(tenant_ids) - NAMES_SHOWN
    return ", ".join(tenant_ids[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
