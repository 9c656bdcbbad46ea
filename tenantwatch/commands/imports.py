"""Other programs' logs turned into events, one command for each format."""

import json
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from tenantwatch.commands.input import Source, opened
from tenantwatch.commands.output import complain, note, out

if TYPE_CHECKING:
    from tenantwatch.importers.importer import Importer, Reading, Tenancy
    from tenantwatch.importers.record import Record

app = typer.Typer(no_args_is_help=True)

# Formats whose reader needs nothing but the record: the module's name is the command's.
JSON_FORMATS: Final = {
    "cloudtrail": "AWS CloudTrail: sign-ins to auth events, every other call to access events",
    "okta": "Okta's System Log: sign-ins, factors and tokens to auth events, changes to access events",
    "auth0": "Auth0's tenant logs, by their type codes: to auth and access events",
    "entra": "Microsoft Entra (Azure AD) sign-in logs to auth events, audit logs to access events",
}
JSON_LAYOUTS: Final = (
    'Records may be one a line, an array, in an envelope such as {"Records": …}, or printed over many lines.'
)
IDS: Final = (
    "Events go to standard output as NDJSON, ready for `tenantwatch replay -` and `tenantwatch backtest -`; "
    "what was not understood is counted on standard error. Importing again repeats the event ids."
)


def _tenant_id(value: str | None) -> str | None:
    from pydantic import TypeAdapter, ValidationError

    from schemas.event import TenantId

    try:
        return None if value is None else TypeAdapter[str](TenantId).validate_python(value)
    except ValidationError:
        raise typer.BadParameter("use 1 to 64 of the characters A-Z a-z 0-9 . _ -") from None


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise typer.BadParameter(f"{name!r} is no IANA time zone, like Europe/Berlin or UTC") from None
    return name


File = Annotated[str, typer.Argument(help="The log, plain or gzip; - is standard input.", metavar="FILE")]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", help="Whose events they are.", callback=_tenant_id)
]
TenantFrom = Annotated[
    str | None,
    typer.Option(
        "--tenant-from",
        metavar="FIELD",
        help="Field of the log that names the tenant; where it is empty, --tenant is.",
    ),
]
Zone = Annotated[
    str, typer.Option("--zone", help="Time zone of times that name none, an IANA name.", callback=_zone)
]
ServiceOption = Annotated[str, typer.Option("--service", help="Who reports the events.")]


def _tenancy(tenant: str | None, tenant_from: str | None) -> "Tenancy":
    from tenantwatch.importers.importer import Tenancy

    if tenant is None and tenant_from is None:
        raise typer.BadParameter("give --tenant, or --tenant-from with a field of the log that names it")
    return Tenancy(tenant, tenant_from)


def _write(importer: "Importer[Any]", items: Iterable[Any], source: Source, expected: str) -> None:
    """Print the events of a source, then what became of the rest."""
    for event in importer.events(items):
        sys.stdout.write(json.dumps(event) + "\n")
        if source.size is None:
            sys.stdout.flush()  # the log may be a live one
    report = importer.report
    for line in report.lines():
        note(line)
    if report.not_understood and report.not_understood == report.read:
        complain(f"nothing in {source.name} is understood: is it {expected}?")
        raise typer.Exit(1)


@app.command(epilog=IDS)
def sshd(
    file: File,
    tenant: TenantOption = None,
    tenant_from: TenantFrom = None,
    year: Annotated[
        int | None, typer.Option(help="Year of the first line; without it, the last one that fits.")
    ] = None,
    zone: Zone = "UTC",
    service: ServiceOption = "sshd",
) -> None:
    """OpenSSH's syslog lines to auth events. --tenant-from host takes the host's name."""
    from zoneinfo import ZoneInfo

    from tenantwatch.importers.importer import Importer, Line
    from tenantwatch.importers.sshd import SshdReader

    tenancy = _tenancy(tenant, tenant_from)
    try:
        reader = SshdReader(year=year, zone=ZoneInfo(zone), now=datetime.now().astimezone())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--year") from None
    with opened(file, progress=not out.is_terminal) as source:
        importer = Importer(reader.read, tenancy, service)
        lines = (Line(line.decode(errors="surrogateescape")) for line in source.lines())
        _write(importer, lines, source, "a log of sshd, written by syslog")
    report = importer.report
    others = report.without_event["other_program"] + report.without_event["blank"] + report.not_understood
    if report.read and others == report.read:
        # Nothing is wrong with such a log, but it is hardly what was asked for.
        complain(f"no line in {source.name} is sshd's: is it the right log, or in another shape?", "warning")


@app.command(epilog=IDS)
def combined(
    file: File,
    tenant: TenantOption = None,
    tenant_from: TenantFrom = None,
    duration_unit: Annotated[
        Literal["s", "ms", "us"] | None,
        typer.Option(
            help="Unit of the number behind the user agent, where one is logged: the time to answer. nginx's "
            "$request_time is s, Apache's %D us and %T s."
        ),
    ] = None,
    service: ServiceOption = "web",
) -> None:
    """Apache's and nginx's access logs, combined or common format, to request events.

    In http_route, ids in the path are {id}; the query is left out. --tenant-from host takes the server's name
    of Apache's vhost_combined.
    """
    from tenantwatch.importers.combined import CombinedReader
    from tenantwatch.importers.importer import Importer, Line

    tenancy = _tenancy(tenant, tenant_from)
    with opened(file, progress=not out.is_terminal) as source:
        importer = Importer(CombinedReader(duration_unit).read, tenancy, service)
        lines = (Line(line.decode(errors="surrogateescape")) for line in source.lines())
        _write(importer, lines, source, "an access log in the combined format")


def _import_records(
    read: "Callable[[Record], Reading]", file: str, tenancy: "Tenancy", service: str, expected: str
) -> None:
    from tenantwatch.importers.importer import Importer
    from tenantwatch.importers.json_stream import of_records, read_json, unwrapped

    with opened(file, progress=not out.is_terminal) as source:
        importer = Importer(of_records(read), tenancy, service, "record")
        _write(importer, map(unwrapped, read_json(source.chunks())), source, expected)


def _add_json_command(name: str, reads: str) -> None:
    @app.command(name, help=f"{reads}.\n\n{JSON_LAYOUTS}", epilog=IDS)
    def command(
        file: File,
        tenant: TenantOption = None,
        tenant_from: TenantFrom = None,
        service: ServiceOption = name,
    ) -> None:
        from importlib import import_module

        tenancy = _tenancy(tenant, tenant_from)
        read = import_module(f"tenantwatch.importers.{name}").read
        _import_records(read, file, tenancy, service, f"a log of {name} in JSON")


for _name, _reads in JSON_FORMATS.items():
    _add_json_command(_name, _reads)


@app.command("windows-json", epilog=IDS)
def windows_json(
    file: File,
    tenant: TenantOption = None,
    tenant_from: TenantFrom = None,
    zone: Zone = "UTC",
    service: ServiceOption = "windows",
) -> None:
    """Windows Security events (winlogbeat, EVTX in JSON, flat) to auth and access events."""
    from zoneinfo import ZoneInfo

    from tenantwatch.importers.importer import Importer
    from tenantwatch.importers.json_stream import read_json, unwrapped
    from tenantwatch.importers.windows_attempts import WindowsReader

    tenancy = _tenancy(tenant, tenant_from)
    reader = WindowsReader(ZoneInfo(zone))
    with opened(file, progress=not out.is_terminal) as source:
        importer = Importer(reader.read, tenancy, service, "record")
        items = reader.items(map(unwrapped, read_json(source.chunks())))
        _write(importer, items, source, "Windows' Security log in JSON")


@app.command(epilog=IDS)
def keycloak(
    file: File,
    tenant: TenantOption = None,
    tenant_from: TenantFrom = None,
    zone: Zone = "UTC",
    service: ServiceOption = "keycloak",
) -> None:
    """Keycloak's log, or its events in JSON, to auth events, admin events to access events."""
    from zoneinfo import ZoneInfo

    from tenantwatch.importers.importer import Importer
    from tenantwatch.importers.keycloak import KeycloakReader

    tenancy = _tenancy(tenant, tenant_from)
    reader = KeycloakReader(ZoneInfo(zone))
    with opened(file, progress=not out.is_terminal) as source:
        importer = Importer(reader.read, tenancy, service, "record")
        _write(importer, reader.items(source.chunks()), source, "a log of Keycloak's")


MAP_HELP: Final = (
    "FIELD=COLUMN, once for each field. FIELD=COLUMN:FORMAT says how a time is written (%d.%m.%Y %H:%M:%S; "
    "iso and epoch are known without). FIELD=COLUMN:WORD=MEANING,… says what the column's words mean (* is "
    "any other). FIELD=:CONSTANT is the same for every row. attributes.NAME=COLUMN keeps a column that is no "
    "field."
)


@app.command("csv", epilog=IDS)
def csv_command(
    file: File,
    maps: Annotated[list[str], typer.Option("--map", metavar="FIELD=COLUMN", help=MAP_HELP)],
    kind: Annotated[Literal["auth", "access", "request"], typer.Option(help="What the rows are.")] = "auth",
    tenant: TenantOption = None,
    tenant_from: TenantFrom = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            help="Between cells; without it, what the first line has most of: comma, semicolon, tab, bar."
        ),
    ] = None,
    zone: Zone = "UTC",
    service: ServiceOption = "csv",
) -> None:
    """Any CSV file with a header to events of one kind.

    For example, logins in a table with the columns When, User, IP and Result:

    tenantwatch import csv logins.csv --tenant tenant-a --map 'time=When:%d.%m.%Y %H:%M' --map user_id=User
    --map source_ip=IP --map action=:login --map 'outcome=Result:OK=success,*=failure'

    Needed are time, outcome (for requests, http_status will do) and, but for requests, action. Without
    event_id, it is made of the row.
    """
    from zoneinfo import ZoneInfo

    from tenantwatch.importers.csv_map import MapError, parse_map
    from tenantwatch.importers.csv_rows import CsvReader, read_rows
    from tenantwatch.importers.importer import Importer

    tenancy = _tenancy(tenant, tenant_from)
    if delimiter is not None and len(delimiter) != 1:
        raise typer.BadParameter("give one character", param_hint="--delimiter")
    with opened(file, progress=not out.is_terminal) as source:
        header, rows = read_rows(
            (line.decode(errors="backslashreplace") for line in source.lines()), delimiter
        )
        try:
            mappings = parse_map(maps, kind, header)
        except MapError as error:
            raise typer.BadParameter(str(error), param_hint="--map") from None
        if tenant_from is not None and tenant_from not in header:
            columns = ", ".join(header)
            raise typer.BadParameter(
                f"there is no column {tenant_from!r}; the columns are {columns}", param_hint="--tenant-from"
            )
        reader = CsvReader(mappings, kind, ZoneInfo(zone))
        _write(Importer(reader.read, tenancy, service, "row"), rows, source, "the table that --map describes")
