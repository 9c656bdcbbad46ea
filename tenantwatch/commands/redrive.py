"""Sending dead letters again, to the topics that their messages came from."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from tenantwatch.commands.letters import (
    METAVAR,
    OfKind,
    OfReason,
    OfTenant,
    checked_ids,
    letter_row,
)
from tenantwatch.commands.output import AsJson, complain, note, print_json
from tenantwatch.commands.when import Since, as_time
from tenantwatch.settings import Settings


def redrive(
    letters: Annotated[
        list[str] | None,
        typer.Argument(help="Only these, as `list` shows them.", metavar=METAVAR, callback=checked_ids),
    ] = None,
    tenant: OfTenant = None,
    reason: OfReason = None,
    kind: OfKind = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Those too that were sent again before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send messages again that could not be stored, to the topics they came from.

    Do it once the cause is mended: what is still wrong with them makes new dead letters. Of an array only the
    events that were rejected are sent. Exit code 1 if any could not be sent.
    """
    from tenantwatch.control import Control

    filters = {"tenant_id": tenant, "reason": reason, "kind": kind, "since": as_time(since)}
    if letters and any(filters.values()):
        raise typer.BadParameter("name letters, or filters, not both")
    settings = Settings()
    with Control(settings) as control:
        chosen = _named(control, letters, again) if letters else _filtered(control, filters, again, limit)
        _tell_left_out(chosen)
        if chosen.messages and not (dry_run or yes):
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in chosen.by_reason.items())
            typer.confirm(f"Send {chosen.messages:,} messages again ({reasons})?", abort=True, err=True)
        _redrive(settings, control, chosen, again=again, dry_run=dry_run, as_json=as_json)


@dataclass(frozen=True)
class _Chosen:
    """Letters to send again, in lists of rows; and how many are left out because they were, or might be."""

    rows: Iterable[list[dict[str, Any]]]
    messages: int
    by_reason: Mapping[str, int]
    sent_before: int = 0
    in_doubt: int = 0


def _named(control: Any, letter_ids: Sequence[str], again: bool) -> _Chosen:
    rows = [letter_row(control, letter_id) for letter_id in dict.fromkeys(letter_ids)]
    chosen = [row for row in rows if again or row["redrive_status"] in ("", "failed")]
    status = Counter(row["redrive_status"] for row in rows if row not in chosen)
    by_reason = Counter(row["reason"] for row in chosen)
    return _Chosen([chosen], len(chosen), by_reason, status["sent"], status["sending"])


def _filtered(control: Any, filters: dict[str, Any], again: bool, limit: int | None) -> _Chosen:
    from tenantwatch.redrive import pages

    everything = control.get("/dead-letters/counts", **filters)
    chosen = {**filters, "waiting": not again}
    by_reason = {row["reason"]: row["messages"] for row in control.get("/dead-letters/counts", **chosen)}
    messages = min(sum(by_reason.values()), limit or sys.maxsize)
    left_out = (0, 0) if again else (_sum(everything, "redriven"), _sum(everything, "interrupted"))
    return _Chosen(pages(control, chosen, messages), messages, by_reason, *left_out)


def _sum(rows: Iterable[dict[str, Any]], name: str) -> int:
    return sum(row[name] for row in rows)


def _tell_left_out(chosen: _Chosen) -> None:
    if chosen.sent_before:
        note(f"{chosen.sent_before:,} were sent again before; --again sends them once more")
    if chosen.in_doubt:
        complain(
            f"{chosen.in_doubt:,} may have been sent: a redrive was interrupted. --again sends them once "
            "more; an event that is then stored twice is flagged as a duplicate, and judged once",
            "warning",
        )


def _redrive(
    settings: Settings, control: Any, chosen: _Chosen, *, again: bool, dry_run: bool, as_json: bool
) -> None:
    from streams.letter_log import LetterLog
    from tenantwatch.control import kafka_bootstrap
    from tenantwatch.redrive import Redrive

    counts = dict.fromkeys(("messages", "events", "gone", "refused", "taken"), 0)
    if chosen.messages:
        with LetterLog(kafka_bootstrap(settings)) as log:
            sending = Redrive(control, log, again=again, dry_run=dry_run, complain=complain)
            try:
                for rows in chosen.rows:
                    sending.run(rows)
            finally:  # also when it was interrupted
                counts = {name: getattr(sending, name) for name in counts}
                _report(counts, dry_run)
    else:
        note("nothing to send again")
    if as_json:
        print_json({**counts, "sent_before": chosen.sent_before, "in_doubt": chosen.in_doubt})
    raise typer.Exit(1 if counts["gone"] or counts["refused"] else 0)


def _report(counts: Mapping[str, int], dry_run: bool) -> None:
    note(
        f"{'would send' if dry_run else 'sent'} {counts['messages']:,} messages, {counts['events']:,} events"
    )
    if counts["gone"]:
        complain(f"{counts['gone']:,} are gone: Kafka has let go of them, and the store never holds them")
    if counts["refused"]:
        complain(f"{counts['refused']:,} could not be sent")
    if counts["taken"]:
        note(f"{counts['taken']:,} were sent by another redrive at the same time")
