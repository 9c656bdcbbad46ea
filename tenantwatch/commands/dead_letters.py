"""What could not be stored: listing it, looking at one, and sending it again once its cause is mended."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tenantwatch.commands.output import (
    AsJson,
    complain,
    fail,
    moment,
    note,
    print_json,
    print_line,
    print_table,
)
from tenantwatch.commands.when import Since, as_time
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from streams.dead_letters import Letter

app = typer.Typer(no_args_is_help=True)
SHOWN_CHARACTERS: Final = 4_000
DETAIL_CHARACTERS: Final = 200
_ID: Final = re.compile(r"([A-Za-z0-9._-]+):([0-9]+):([0-9]+)")
_REDRIVE: Final = {"": "", "sending": "interrupted", "sent": "sent", "failed": "failed"}


class Kind(StrEnum):
    """As in the contract; here as an option's choices."""

    AUTH = "auth"
    ACCESS = "access"
    REQUEST = "request"


OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="With this message key only; it need not be a tenant.")
]
OfReason = Annotated[str | None, typer.Option("--reason", help="Of this reason only, e.g. unknown_tenant.")]
OfKind = Annotated[Kind | None, typer.Option("--kind", help="Of this kind only.")]
METAVAR: Final = "TOPIC:PARTITION:OFFSET"


def _place(letter_id: str) -> dict[str, Any]:
    found = _ID.fullmatch(letter_id)
    if not found:
        raise typer.BadParameter(
            f"{letter_id!r} is no {METAVAR}; `tenantwatch dead-letters list` shows them, like audit.auth:3:17"
        )
    return {"topic": found[1], "partition": int(found[2]), "offset": int(found[3])}


def _checked(value: Any) -> Any:
    for letter_id in [value] if isinstance(value, str) else value or ():
        _place(letter_id)
    return value


LetterId = Annotated[
    str, typer.Argument(help="Where its message was, as `list` shows it.", metavar=METAVAR, callback=_checked)
]


def _id(row: dict[str, Any]) -> str:
    return f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"


@app.command("list")
def list_letters(
    tenant: OfTenant = None,
    reason: OfReason = None,
    kind: OfKind = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what could not be stored, the latest first, and how many of each reason there are."""
    from tenantwatch.control import Control

    chosen = {"tenant_id": tenant, "reason": reason, "kind": kind, "since": as_time(since)}
    with Control(Settings()) as control:
        letters = control.get("/dead-letters", **chosen, limit=limit)
        counts = control.get("/dead-letters/counts", **chosen)
    if as_json:
        print_json({"dead_letters": letters, "by_reason": counts})
        return
    columns = {
        "letter": _id,
        "rejected": lambda row: moment(row["rejected_at"]),
        "reason": lambda row: row["reason"],
        "tenant": lambda row: row["tenant_id"],
        "redriven": lambda row: _REDRIVE[row["redrive_status"]],
        "detail": lambda row: _cut(row["detail"]),
    }
    print_table(columns, letters, "no dead letters")
    if not counts:
        return
    print_line("")
    print_table(
        {
            "reason": lambda row: row["reason"],
            "messages": lambda row: f"{row['messages']:,}",
            "events": lambda row: f"{row['events']:,}",
            "redriven": lambda row: f"{row['redriven']:,}",
        },
        counts,
        "",
    )
    if len(letters) == limit:
        note(f"the latest {limit:,}; --limit shows more")


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_CHARACTERS else text[: DETAIL_CHARACTERS - 1] + "…"


@app.command()
def show(
    letter: LetterId,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the message's bytes as they are, and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one in full: why, and the message itself; of an array the events that were rejected."""
    from tenantwatch.control import Control

    settings = Settings()
    with Control(settings) as control:
        row = _row(control, letter)
    found, problem = _fetch(settings, row)
    if raw:
        if found is None:
            raise fail(problem)
        sys.stdout.buffer.write(found.value or b"")
    elif as_json:
        print_json({**row, **_json_of(found), "problem": problem or None})
    else:
        _print_row(row, found)
        if found is None:
            complain(problem, "warning")
        else:
            _print_message(row, found)


def _row(control: Any, letter_id: str) -> dict[str, Any]:
    rows = control.get("/dead-letters", **_place(letter_id), limit=1)
    if not rows:
        raise fail(f"no dead letter {letter_id}; `tenantwatch dead-letters list` shows those there are")
    found: dict[str, Any] = rows[0]
    return found


def _fetch(settings: Settings, row: dict[str, Any]) -> "tuple[Letter | None, str]":
    """Return the letter from Kafka, or why it cannot be had."""
    from streams.letter_log import LetterLog
    from streams.topics import TopicError
    from tenantwatch.control import ControlError, kafka_bootstrap
    from tenantwatch.redrive import find_letter

    try:
        bootstrap = kafka_bootstrap(settings)
        with LetterLog(bootstrap) as log:
            found = find_letter(log, row)
    except (ControlError, TopicError) as error:
        return None, f"the message cannot be read: {error}"
    return found, "" if found else (
        f"the message is gone: Kafka at {bootstrap} has let go of it (the retention of audit.dead-letters), "
        "or is another one than it was; the store never holds it"
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _json_of(letter: "Letter | None") -> dict[str, Any]:
    if letter is None:
        return {"key": None, "headers": None, "value": None}
    headers = {name: _text(value) for name, value in letter.headers}
    return {"key": _text(letter.key), "headers": headers, "value": _text(letter.value)}


def _print_row(row: dict[str, Any], letter: "Letter | None") -> None:
    indexes = ", ".join(map(str, row["rejected_indexes"]))
    status = _REDRIVE[row["redrive_status"]]
    facts = {
        "letter": _id(row),
        "rejected": moment(row["rejected_at"]),
        "reason": row["reason"],
        "detail": row["detail"].replace(" | ", "\n"),
        "tenant": f"{row['tenant_id']} (the message's key)",
        "size": f"{row['value_bytes']:,} bytes",
        "events": f"rejected: {indexes} of the message's array, from 0" if indexes not in ("", "0") else "",
        "redriven": f"{status} {moment(row['redrive_changed_at'])}" if status else "",
        **{f"header {name}": _text(value) for name, value in (letter.headers if letter else ())},
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        for line in (value or "").splitlines():
            print_line(f"{name:{width}}  {line}")
            name = ""


def _print_message(row: dict[str, Any], letter: "Letter") -> None:
    from streams.dead_letters import rejected_elements

    if letter.value is None:
        note("the message has no value")
        return
    rejected = rejected_elements(letter.value, row["reason"], row["rejected_indexes"])
    texts = (
        {"": _text(letter.value) or ""} if rejected is None else {f"[{i}] ": t for i, t in rejected.items()}
    )
    lines = [line for name, text in texts.items() for line in f"{name}{_pretty(text)}".splitlines()]
    print_line("")
    room = SHOWN_CHARACTERS
    for number, line in enumerate(lines):
        print_line(line[:room])
        room -= len(line)
        if room <= 0:
            left = sum(map(len, lines[number + 1 :])) - min(room, 0)
            note(f"… and {left:,} more characters; --raw prints the whole message")
            return
    if rejected is not None:
        note("the other events of the message are stored; --raw prints all")


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text  # which may be what is wrong with it


@app.command()
def redrive(
    letters: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these, as `list` shows them.", metavar=f"[{METAVAR}]...", callback=_checked
        ),
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
    rows = [_row(control, letter_id) for letter_id in dict.fromkeys(letter_ids)]
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
