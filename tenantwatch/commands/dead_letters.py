"""What could not be stored: listing it, looking at one, and sending it again once its cause is mended."""

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tenantwatch.commands.letters import (
    METAVAR,
    OfKind,
    OfReason,
    OfTenant,
    checked_ids,
    letter_id,
    letter_row,
)
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
from tenantwatch.commands.redrive import redrive
from tenantwatch.commands.when import Since, as_time
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from streams.dead_letters import Letter

app = typer.Typer(no_args_is_help=True)
SHOWN_CHARACTERS: Final = 4_000
DETAIL_CHARACTERS: Final = 200
_REDRIVE: Final = {"": "", "sending": "interrupted", "sent": "sent", "failed": "failed"}

LetterId = Annotated[
    str,
    typer.Argument(help="Where its message was, as `list` shows it.", metavar=METAVAR, callback=checked_ids),
]


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
        "letter": letter_id,
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
        bool,
        typer.Option("--raw", help="Print the message's bytes as they are, and nothing else; it is noted."),
    ] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show who it is about, not masked; it is noted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one in full: why, and the message itself; of an array the events that were rejected.

    Who it is about is masked, unless --reveal or --raw asks for it.
    """
    from tenantwatch.commands.privacy import actor
    from tenantwatch.control import Control
    from tenantwatch.people import note_reading

    settings = Settings()
    with Control(settings) as control:
        row = letter_row(control, letter)
        if raw or reveal:
            reason = f"dead letter {letter_id(row)}"
            note_reading(control, row["tenant_id"], actor=actor(), reason=reason)
    found, problem = _fetch(settings, row)
    if found is not None and not raw and not reveal:
        found = _masked(found)
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
    if found and found.left_out:
        return None, found.left_out
    return found, "" if found else (
        f"the message is gone: Kafka at {bootstrap} has let go of it (the retention of audit.dead-letters), "
        "or is another one than it was; the store never holds it"
    )


def _masked(letter: "Letter") -> "Letter":
    """Return a letter without who it is about."""
    from tenantwatch.people import masked_message

    def shown(value: bytes | None) -> bytes | None:
        try:
            return None if value is None else masked_message(value.decode()).encode()
        except UnicodeDecodeError:
            # Bytes that are no text stay: they may be what is wrong.
            return value

    headers = [(name, shown(value)) for name, value in letter.headers]
    return replace(letter, key=shown(letter.key), value=shown(letter.value), headers=headers)


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
        "letter": letter_id(row),
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
    try:
        rejected = rejected_elements(letter.value, row["reason"], row["rejected_indexes"])
    except ValueError:
        rejected = None  # then all of it is shown
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
def resume(
    topic: Annotated[str | None, typer.Option(help="Of this topic only, e.g. audit.auth.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="This partition only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Go on with partitions that a flood of invalid events stopped, once the cause is mended.

    Run it beside the worker that has them. Nothing is lost: what came meanwhile waits in Kafka.
    """
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        body = {"topic": topic, "partition": partition}
        resumed = control.request("POST", "/dead-letters/resume", json=body)
    if as_json:
        print_json(resumed)
        return
    for row in resumed:
        print_line(f"{row['topic']} partition {row['partition']} goes on at offset {row['offset']}")
    if not resumed:
        note("this worker has no such partition stopped; `tenantwatch status` names those that are")


app.command()(redrive)
