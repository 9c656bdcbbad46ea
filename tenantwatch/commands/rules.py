"""Detection rules of one's own: checking, testing, and giving them to a tenant."""

from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.output import AsJson, complain, note, print_json, print_table
from tenantwatch.commands.tenants import Yes, change_tenant, find_tenant
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from detectors.rules.compiled import Rule
    from tenantwatch.rule_cases import Verdict
    from tenantwatch.rules import RuleFile

app = typer.Typer(no_args_is_help=True)
Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Sigma rules: files, or folders with *.yml files.")
]
OfTenant = Annotated[str, typer.Option("--tenant", help="Whose rules.")]


def read(paths: list[Path]) -> "list[RuleFile]":
    """Return the rules in files and folders.

    Raises
    ------
    typer.Exit
        If anything is wrong with them; all of that has been printed.
    """
    from detectors.rules.faults import RuleError
    from tenantwatch.rules import read_rules

    try:
        return read_rules(paths)
    except RuleError as error:
        for fault in error.faults:
            complain(fault)
        raise typer.Exit(1) from None


@app.command()
def check(paths: Paths, as_json: AsJson = False) -> None:
    """Show the rules in files, or everything that is wrong with them. Needs nothing running."""
    files = read(paths)
    rows = [{"file": str(file.path), **_shown(rule)} for file in files for rule in file.rules]
    _print(rows, as_json, "no rules")


@app.command("test")
def run_cases(paths: Paths, as_json: AsJson = False) -> None:
    """Run each rule's cases, NAME.cases.yml beside NAME.yml: one must alert, and one must not.

    Needs nothing running. Exits 1 if a case fails, or a rule has none.
    """
    from detectors.rules.faults import RuleError
    from tenantwatch.rule_cases import Verdict, judge

    rows: list[dict[str, Any]] = []
    for file in read(paths):
        try:
            verdicts = judge(file)
        except RuleError as error:
            verdicts = [Verdict("", "", str(error), [])]
        rows += [_judged(file, verdict) for verdict in verdicts]
    if as_json:
        print_json(rows)
    else:
        columns = ("file", "result", "expect", "case", "fault")
        print_table({name: itemgetter(name) for name in columns}, rows, "no rules")
    failed = sum(row["result"] == "failed" for row in rows)
    note(f"{len(rows) - failed:,} passed, {failed:,} failed")
    if failed:
        raise typer.Exit(1)


@app.command()
def apply(paths: Paths, tenant: OfTenant) -> None:
    """Give a tenant the rules in files, in place of those that it has. A fault applies none."""
    files = read(paths)
    change_tenant(tenant, lambda own: {"rules": [file.text for file in files]})
    rules = sum(len(file.rules) for file in files)
    note(f"applied {rules:,} {'rule' if rules == 1 else 'rules'} to {tenant}")


@app.command()
def clear(tenant: OfTenant, yes: Yes = False) -> None:
    """Take all rules away from a tenant."""
    if not yes:
        typer.confirm(f"Take all rules away from {tenant}?", abort=True, err=True)
    change_tenant(tenant, lambda own: {"rules": []})
    note(f"{tenant} has no rules")


@app.command("list")
def list_rules(tenant: OfTenant, as_json: AsJson = False) -> None:
    """List a tenant's rules. With --json the Sigma texts themselves are there, too."""
    from detectors.rules.faults import RuleError
    from detectors.rules.ruleset import compiled
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        texts: list[str] = find_tenant(control, tenant).get("rules", [])
    rows: list[dict[str, Any]] = []
    for place, text in enumerate(texts):
        try:
            rows += [{**_shown(rule), "text": text} for rule in compiled(text, True)]
        except RuleError as error:
            complain(f"rules[{place}] is not used: {error.faults[0]}", "warning")
    _print(rows, as_json, f"{tenant} has no rules; give it some with `tenantwatch rules apply`")


def _shown(rule: "Rule") -> dict[str, Any]:
    return {
        "title": rule.headline.title,
        "category": rule.kind,
        "type": rule.window.type if rule.window else "selection",
        "severity": rule.headline.severity,
        "group_by": ", ".join(rule.group_by),
    }


def _judged(file: "RuleFile", verdict: "Verdict") -> dict[str, Any]:
    return {
        "file": str(file.path),
        "result": "failed" if verdict.fault else "ok",
        "expect": verdict.expect,
        "case": verdict.case,
        "fault": verdict.fault,
        "alerts": [alert.model_dump(mode="json") for alert in verdict.alerts],
    }


def _print(rows: list[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        print_json(rows)
        return
    columns = [name for name in rows[0] if name != "text"] if rows else []
    print_table({name: itemgetter(name) for name in columns}, rows, empty)
