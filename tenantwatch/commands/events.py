"""Events in files: checking them, and making them of other programs' logs."""

import json
import sys
from dataclasses import asdict
from datetime import datetime, tzinfo
from typing import Annotated

import typer

from tenantwatch.commands.input import File, Source, opened
from tenantwatch.commands.output import AsJson, complain, note, out, print_json, print_line

importers = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(validate)


def validate(file: File, as_json: AsJson = False) -> None:
    """Check events before they are sent: what the pipeline would reject, and what looks misspelt.

    A line is an event or an array of events of one tenant. Exit code 1 when there are errors.
    """
    from schemas.validate import Summary, validate_lines

    summary = Summary()
    with opened(file, progress=not out.is_terminal) as source:
        problems = validate_lines(source.lines(), summary)
        if as_json:
            found = [asdict(problem) for problem in problems]
            print_json({**asdict(summary), "problems": found})
        else:
            for problem in problems:
                text = f"{source.name}:{problem.line}: {problem.severity}: {problem.reason}: {problem.detail}"
                print_line(text, "red" if problem.severity == "error" else "yellow")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.events.items() if count)
    good = sum(summary.events.values())
    note(
        f"{summary.lines:,} lines, {good:,} good events{f' ({kinds})' if kinds else ''}, "
        f"{summary.errors:,} errors, {summary.warnings:,} warnings",
        "red" if summary.errors else "green",
    )
    raise typer.Exit(1 if summary.errors else 0)


def _tenant_id(value: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from schemas.event import TenantId

    try:
        return TypeAdapter[str](TenantId).validate_python(value)
    except ValidationError:
        raise typer.BadParameter("use 1 to 64 of the characters A-Z a-z 0-9 . _ -") from None


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise typer.BadParameter(f"{name!r} is no IANA time zone, like Europe/Berlin or UTC") from None
    return name


@importers.command()
def sshd(
    file: Annotated[
        str, typer.Argument(help="sshd's log, plain or gzip; - is standard input.", metavar="FILE")
    ],
    tenant: Annotated[str, typer.Option(help="Whose events they are.", callback=_tenant_id)],
    year: Annotated[
        int | None, typer.Option(help="Year of the first line; without it, the last one that fits.")
    ] = None,
    zone: Annotated[str, typer.Option(help="Time zone of the log, an IANA name.", callback=_zone)] = "UTC",
    service: Annotated[str, typer.Option(help="Who reports the events.")] = "sshd",
) -> None:
    """Turn OpenSSH's syslog lines into auth events, as NDJSON on standard output.

    What was not understood is counted on standard error. Importing a log again repeats the event ids.
    """
    from zoneinfo import ZoneInfo

    with opened(file, progress=not out.is_terminal) as source:
        _import_sshd(source, tenant, year, ZoneInfo(zone), service)


def _import_sshd(source: Source, tenant: str, year: int | None, zone: tzinfo, service: str) -> None:
    from tenantwatch.importers.sshd import SshdImporter

    now = datetime.now().astimezone()
    try:
        importer = SshdImporter(tenant, year=year, zone=zone, now=now, service=service)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--year") from None
    for event in importer.events(line.decode(errors="surrogateescape") for line in source.lines()):
        sys.stdout.write(json.dumps(event) + "\n")
        if source.size is None:
            sys.stdout.flush()  # the log may be a live one
    report = importer.report
    for line in report.lines():
        note(line)
    if report.lines_not_understood and report.lines_not_understood == report.lines_read:
        complain(f"nothing in {source.name} is understood: is it a log of sshd, written by syslog?")
        raise typer.Exit(1)
