"""The detectors over events of files or of the store: settings can be tried before they hold."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.alerts import OfTenant, print_alerts
from tenantwatch.commands.auditing import audit_history
from tenantwatch.commands.output import (
    AsJson,
    Cell,
    complain,
    fail,
    note,
    number,
    print_json,
    print_json_lines,
    print_line,
    print_table,
)
from tenantwatch.commands.overrides import Set, read_overrides, written
from tenantwatch.commands.when import From, Learn, To, as_time, parse_when
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from detectors.tuning import Overrides
    from schemas.alert import Alert
    from schemas.tenant import Tenant
    from tenantwatch.backtest import Backtest
    from tenantwatch.comparison import Comparison

DEFAULT_SPAN = "7d"
OwnRules = Annotated[
    list[Path] | None,
    typer.Option(
        "--rules", help="Rules of one's own to try, a file or a folder, in place of the tenants' own."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(backtest)


def backtest(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Newline-delimited JSON, plain or gzip, read in order of time; - is standard input. "
            "Without any, the events of --tenant in the store.",
            show_default=False,
        ),
    ] = None,
    tenant: OfTenant = None,
    since: From = None,
    until: To = None,
    learn: Learn = "14d",
    settings: Set = None,
    rules: OwnRules = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show what --set and --rules gain and lose against what holds.")
    ] = False,
    tenants: Annotated[
        Path | None,
        typer.Option(help="Tenants' settings for files, as for `tenants apply`; others have the defaults."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Go on from what detectors remembered in this file, if it is there, and keep it there "
            "again at the end; with --compare it is only read."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the detectors say about events: each alert's last revision.

    --from shows only alerts since then; detectors learn from what comes before, too. An episode that is open
    at the end stays open, as told so far. With --json one alert a line; with --compare one document.
    """
    from tenantwatch.backtest import Backtest, Trial
    from tenantwatch.commands.feeds import locate_here

    overrides = read_overrides(settings or [])
    if compare and not (overrides or rules):
        hint = "say with --set or --rules what it is to be compared with"
        raise typer.BadParameter(hint, param_hint="--compare")
    changed = Trial(change_of(overrides, rules))
    trials = [Trial(), changed] if compare else [changed]
    shown_since = as_time(since)
    if files:
        run = Backtest(trials, read_settings(tenants), locate_here())
        rejected = _run_files(run, files, tenant, as_time(until), state, keep=not compare)
    else:
        if tenant is None or tenants is not None or state is not None:
            hint = "FILE, or only --tenant" if tenants or state else "FILE or --tenant"
            raise typer.BadParameter("say which events", param_hint=hint)
        shown_since = shown_since or parse_when(DEFAULT_SPAN, datetime.now(UTC))
        run, rejected = Backtest(trials, locate=locate_here()), 0
        _run_store(run, tenant, parse_when(learn, shown_since), as_time(until) or datetime.now(UTC))
    found = [trial.alerts(shown_since) for trial in trials]
    if compare:
        _print_comparison(run, overrides, found, as_json, shown_since)
    elif as_json:
        print_json_lines(_plain(found[0]))
    else:
        print_alerts(_plain(found[0]), "no alerts", with_status=False)
    _report(run, rejected, len(found[-1]))
    if files and (late := run.not_evaluated["late"]):
        complain(
            f"{late:,} events were not judged: events of their tenant and kind that are more than 15 minutes "
            "newer stand far before them, or were in what --state remembers; fix: sort by time, oldest first",
            "warning",
        )


def change_of(overrides: "Overrides", rules: list[Path] | None) -> "Callable[[Tenant], Tenant] | None":
    """Return what is tried, as a change of a tenant's settings; None: nothing is."""
    from detectors.tuning import overridden
    from tenantwatch.commands.rules import read

    if not overrides and rules is None:
        return None
    own = {} if rules is None else {"rules": [file.text for file in read(rules)]}
    return lambda tenant: overridden(tenant, overrides).model_copy(update=own)


def read_settings(path: Path | None) -> "dict[str, Tenant]":
    """Return the settings in a file of tenants, if one was named."""
    from tenantwatch.commands.tenants import read_file

    return {tenant.tenant_id: tenant for tenant in read_file(str(path))} if path else {}


def _run_files(
    run: "Backtest",
    files: Sequence[str],
    tenant: str | None,
    until: datetime | None,
    state: Path | None,
    *,
    keep: bool,
) -> int:
    from detectors.snapshot import SnapshotError
    from tenantwatch.commands.feeds import feed_files
    from tenantwatch.state_file import load, save

    if state is not None and state.exists():
        try:
            run.restore(load(state))
        except SnapshotError as error:
            raise fail(f"{state}: {error}; if another version wrote it, begin with a new one") from None
    rejected = feed_files(run, files, tenant, until)
    if tenant and not run.events.total():
        raise fail(f"no event of tenant {tenant} in {' '.join(files)}{' before --to' if until else ''}")
    if state is not None and keep:
        try:
            save(state, run.parts())
        except OSError as error:
            raise fail(f"{state}: cannot be written: {error.strerror}") from None
    return rejected


def _run_store(run: "Backtest", tenant_id: str, since: datetime, until: datetime) -> None:
    from tenantwatch.commands.feeds import feed_store, settings_now
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        feed_store(run, control, tenant_id, settings_now(control, tenant_id), since, until)
    audit_history(tenant_id, "backtest", run.events.total())


def _plain(alerts: "Sequence[Alert]") -> list[dict[str, Any]]:
    return [alert.model_dump(mode="json") for alert in alerts]


def _print_comparison(
    run: "Backtest",
    overrides: "Overrides",
    found: "Sequence[list[Alert]]",
    as_json: bool,
    since: datetime | None,
) -> None:
    from tenantwatch.comparison import compare

    current, changed = found
    comparison = compare(current, changed)
    if as_json:
        print_json(
            {
                "settings": overrides,
                "tenant_weeks": run.tenant_weeks(since),
                "current": len(current),
                "changed": len(changed),
                "kept": comparison.kept,
                "gained": _plain(comparison.gained),
                "lost": _plain(comparison.lost),
                "not_evaluated": run.not_evaluated,
            }
        )
        return
    marked = [{"change": "lost", **alert} for alert in _plain(comparison.lost)]
    marked += [{"change": "gained", **alert} for alert in _plain(comparison.gained)]
    marked.sort(key=lambda alert: (alert["detected_at"], alert["alert_id"]))
    print_alerts(marked, "", with_status=False, first={"change": lambda alert: alert["change"]})
    if marked:
        print_line("")
    _print_counts(current, changed, comparison)
    print_line(f"{len(current):,} alerts now, {len(changed):,} with {written(overrides) or 'the rules'}")
    if weeks := run.tenant_weeks(since):
        rates = (number(len(alerts) / weeks) for alerts in found)
        print_line("{} now, {} then, for a tenant and week".format(*rates))


def _print_counts(current: "Sequence[Alert]", changed: "Sequence[Alert]", comparison: "Comparison") -> None:
    columns = {"now": current, "then": changed, "lost": comparison.lost, "gained": comparison.gained}
    counts = {
        name: Counter((alert.detector, alert.classification) for alert in alerts)
        for name, alerts in columns.items()
    }
    kinds = sorted({*counts["now"], *counts["then"]})
    print_table(
        {
            "detector": lambda kind: kind[0],
            "classification": lambda kind: kind[1],
            **{name: _count_of(counts[name]) for name in columns},
        },
        kinds,
        "no alerts with either",
    )


def _count_of(counts: "Counter[tuple[str, str]]") -> Cell:
    return lambda kind: f"{counts[kind]:,}"


def _report(run: "Backtest", rejected: int, alerts: int) -> None:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(run.events.items()) if count)
    aside = "".join(f", {count:,} {reason}" for reason, count in sorted(run.not_evaluated.items()))
    note(
        f"{run.events.total():,} events{f' ({kinds})' if kinds else ''}{aside}, "
        f"{rejected:,} rejected, {alerts:,} alerts"
    )
