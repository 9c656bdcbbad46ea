"""The detectors over a file: no Kafka, no store, nothing running."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenantwatch.commands.alerts import print_alerts
from tenantwatch.commands.input import File, opened
from tenantwatch.commands.output import AsJson, complain, note, print_json_lines

if TYPE_CHECKING:
    from schemas.tenant import Tenant
    from tenantwatch.backtest import BacktestResult

REJECTED_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(backtest)


def backtest(
    file: File,
    tenants: Annotated[
        Path | None,
        typer.Option(help="Tenants' settings, as for `tenants apply`; others have the defaults."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the detectors say about events in a file: each alert's last revision.

    Needs neither Kafka nor a running worker. With --json one alert a line.
    """
    from tenantwatch.backtest import backtest as run

    settings = _read_settings(tenants)
    with opened(file) as source:
        result = run(source.lines(), settings)
    alerts = [alert.model_dump(mode="json") for alert in result.alerts]
    if as_json:
        print_json_lines(alerts)
    else:
        print_alerts(alerts, "no alerts", with_status=False)
    _report(result)


def _read_settings(path: Path | None) -> "dict[str, Tenant]":
    from tenantwatch.commands.tenants import read_file

    return {tenant.tenant_id: tenant for tenant in read_file(str(path))} if path else {}


def _report(result: "BacktestResult") -> None:
    for rejected in result.rejected[:REJECTED_SHOWN]:
        complain(f"line {rejected.line}: {rejected.reason}: {rejected.detail}", "rejected")
    if (more := len(result.rejected) - REJECTED_SHOWN) > 0:
        complain(f"and {more:,} more; `tenantwatch validate` shows all", "rejected")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result.events.items()) if count)
    aside = "".join(f", {count:,} {reason}" for reason, count in sorted(result.not_evaluated.items()))
    note(
        f"{result.events.total():,} events{f' ({kinds})' if kinds else ''}{aside}, "
        f"{len(result.rejected):,} rejected, {len(result.alerts):,} alerts"
    )
