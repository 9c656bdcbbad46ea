"""What a person sees of the demo: steps while it runs, a table at its end."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from schemas.alert import SEVERITIES, Alert, from_ms
from tenantwatch.commands.output import SEVERITY_STYLE, complain, err, out, plain
from tenantwatch.demo.events import DAY_START_MS
from tenantwatch.demo.outcome import Outcome, percentile
from tenantwatch.demo.verdict import Finding

GOOD: Final = "green"
BAD: Final = "bold red"


@contextmanager
def shown_step(what: str) -> Iterator[None]:
    """Show what is being done, and how long it took, on standard error."""
    began = time.monotonic()
    with err.status(f"{what} …"):
        yield
    took = f" {time.monotonic() - began:.1f} s"
    err.print(Text.assemble(("✓ ", GOOD), what, (took, "dim")), soft_wrap=True)


@contextmanager
def silent_step(what: str) -> Iterator[None]:
    """Say nothing."""
    yield


def show_outcome(outcome: Outcome) -> None:
    """Print the table, the figures, and one alert as a person reads it."""
    verdict = outcome.verdict
    day = from_ms(DAY_START_MS).strftime("%A, %d %B %Y")
    out.print(f"\n[bold]{day}[/]: {len(verdict.findings)} attacks among the traffic of three tenants\n")
    out.print(_table(outcome))
    out.print()
    out.print(_figures(outcome))
    for alert in verdict.false_alerts:
        out.print(Text("\nfalse alert: nothing that was planted explains it", BAD))
        _show_alert(alert)
    named = [finding.alert for finding in verdict.findings if finding.alert is not None]
    if named:
        out.print("\n[bold]one of these alerts, as its reader gets it[/]")
        _show_alert(max(named, key=lambda alert: (SEVERITIES.index(alert.severity), alert.detected_at)))
    for problem in outcome.problems():
        complain(problem, "not as it should be")


def _table(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("planted", "raised as", "severity", "found after", "webhook"):
        table.add_column(heading)
    for finding in outcome.verdict.findings:
        table.add_row(*_cells(finding, outcome.was_delivered(finding)))
    return table


def _cells(finding: Finding, delivered: bool) -> tuple[Text, ...]:
    attack, alert = finding.attack, finding.alert
    planted = _two(attack.name, attack.tenant_id)
    if alert is None:
        return planted, Text("not raised", BAD), Text(), Text(), Text()
    return (
        planted,
        _two(alert.classification, alert.entity.value),
        Text(alert.severity, SEVERITY_STYLE[alert.severity]),
        _two(_seconds(finding.after_s or 0.0), _events(finding.after_events or 0)),
        Text("verified", GOOD) if delivered else Text("not received", BAD),
    )


def _two(first: str, second: str) -> Text:
    return Text.assemble(plain(first), "\n", (plain(second), "dim"))


def _seconds(seconds: float) -> str:
    return "at once" if seconds == 0 else f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _figures(outcome: Outcome) -> Table:
    """Return the figures, each with what it means."""
    verdict = outcome.verdict
    planted, false_alerts = len(verdict.findings), len(verdict.false_alerts)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(
        "alerts",
        Text(
            f"{verdict.raised} of {planted} planted attacks raised, {false_alerts or 'no'} false alert"
            f"{'s' if false_alerts > 1 else ''}",
            GOOD if verdict.raised == planted and not false_alerts else BAD,
        ),
    )
    table.add_row(
        "webhooks",
        Text(
            f"{outcome.webhooks_verified} of {outcome.webhooks_expected} messages received and their "
            f"signatures verified, {outcome.webhooks_refused or 'none'} refused",
            GOOD if outcome.webhooks_verified == outcome.webhooks_expected else BAD,
        ),
    )
    table.add_row(
        "events",
        Text(
            f"{outcome.events_sent:,} sent, {outcome.events_stored:,} stored",
            GOOD if outcome.events_sent == outcome.events_stored else BAD,
        ),
    )
    table.add_row(
        "throughput",
        f"{outcome.events_per_s:,} events/s, from the first event sent to the last one stored, where sender, "
        f"Kafka, worker and store share {os.cpu_count()} cores",
    )
    p50, p99 = (percentile(verdict.latencies_ms, percent) for percent in (50, 99))
    if p50 is not None:
        table.add_row(
            "latency",
            f"{p50} ms in the median, {p99} ms at most in 99 of 100: from sending the event that crosses "
            f"a threshold to its alert, at {outcome.paced_per_s:,} events/s "
            f"({len(verdict.latencies_ms)} alerts)",
        )
    return table


def _show_alert(alert: Alert) -> None:
    headline = Text.assemble(
        (alert.severity, SEVERITY_STYLE[alert.severity]), f" {alert.classification} in {alert.tenant_id}"
    )
    numbers = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in alert.evidence.numbers.items())
    said = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    said.add_column(style="dim")
    said.add_column(overflow="fold")
    said.add_row("what", Text(plain(alert.summary), "bold"))
    said.add_row("why", Text(plain(f"score {alert.score:g}, threshold {alert.threshold:g}; {numbers}")))
    said.add_row("attack", Text(f"MITRE ATT&CK {', '.join(alert.attack)}"))
    said.add_row("next", Text(plain(alert.runbook)))
    out.print(Padding(headline, (0, 0, 0, 2)))
    out.print(Padding(said, (0, 0, 0, 2)))


def program() -> str:
    """Return how to call this program from where its user is."""
    called = Path(sys.argv[0])
    found = shutil.which("tenantwatch")
    if called.name != "tenantwatch" or (found and Path(found).resolve() == called.resolve()):
        return "tenantwatch"
    return min(str(called), os.path.relpath(called), key=len)


def show_next() -> None:
    """Say where to look next, when nothing is running any more."""
    name = program()
    out.print("\n[bold]where to look next[/]")
    commands = {
        f"{name} demo --stay": "the same, and it keeps running for you to look around",
        f"{name} up": "your own: Kafka, store and worker on this machine",
        "docker compose up": "the same on servers of their own, with Grafana's dashboards",
        f"{name} --help": "everything else",
    }
    width = max(map(len, commands))
    for command, why in commands.items():
        out.print(Text.assemble(f"  {command:{width}}  ", (why, "dim")), soft_wrap=True)


def show_stay(data_dir: Path, http: str) -> None:
    """Say, on standard error, what can be looked at while it keeps running."""
    name = program()
    err.print("\n[bold]it keeps running; Ctrl-C ends it.[/] In another terminal:")
    for command in (
        f"export TENANTWATCH_DATA_DIR={data_dir}",
        f"{name} alerts list --limit 10",
        f"{name} tenants list",
        f"{name} webhooks list",
        f"{name} status",
        f"curl -s {http}/metrics | grep ^tenantwatch_",
    ):
        err.print(Text(f"  {command}"), soft_wrap=True)
    err.print("Grafana's dashboards need a ClickHouse server; `docker compose up` starts both.")
