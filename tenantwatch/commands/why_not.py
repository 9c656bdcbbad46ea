"""Why nothing was raised about a user: how close each rule came."""

from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.alerts import ID_CHARACTERS
from tenantwatch.commands.auditing import audit_history
from tenantwatch.commands.backtest import OwnRules, change_of
from tenantwatch.commands.explain import FileTenants, FromFiles
from tenantwatch.commands.output import AsJson, note, number, print_json, print_table
from tenantwatch.commands.overrides import Set, read_overrides
from tenantwatch.commands.when import From, Learn, To, as_time, parse_when
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from tenantwatch.backtest import Change
    from tenantwatch.why_not import Suspect, Verdict, WhyNot

DEFAULT_SPAN = "7d"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("why-not")(why_not)


def why_not(
    user: Annotated[str, typer.Option("--user", help="Whose events: a user_id.")],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="The user's tenant; not needed where there is only one.")
    ] = None,
    ip: Annotated[str | None, typer.Option("--ip", help="Only events from this address.")] = None,
    since: From = None,
    until: To = None,
    learn: Learn = "14d",
    files: FromFiles = None,
    tenants: FileTenants = None,
    settings: Set = None,
    rules: OwnRules = None,
    as_json: AsJson = False,
) -> None:
    """Say how close each rule came to an alert for a user: its highest score by its threshold, and when.

    The tenant's events are put before the detectors once more; rules that do not apply say why. A rule may
    count an event for the user, for its address, or for the whole tenant: the table says which.
    """
    from schemas.alert import to_ms
    from tenantwatch.why_not import Suspect, WhyNot

    now = datetime.now(UTC)
    start = as_time(since) or (datetime.min.replace(tzinfo=UTC) if files else parse_when(DEFAULT_SPAN, now))
    end = as_time(until) or (datetime.max.replace(tzinfo=UTC) if files else now)
    tenant = tenant or (_only_tenant_of(files, user) if files else _only_tenant())
    suspect = Suspect(tenant, user, ip, to_ms(start), to_ms(end))
    change = change_of(read_overrides(settings or []), rules)
    if files:
        trial = WhyNot(suspect, change)
        _over_files(trial, suspect, files, tenants)
    else:
        trial = _over_store(suspect, change, parse_when(learn, start), end)
    verdicts = trial.verdicts()
    if as_json:
        print_json({"events": trial.events, "rules": [_as_json(verdict) for verdict in verdicts]})
    else:
        _print(verdicts)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in trial.events.items())
    note(f"{user}: {kinds} events that detectors looked at")


def _only_tenant() -> str:
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        return _only([tenant["tenant_id"] for tenant in control.get("/tenants")])


def _only_tenant_of(files: list[Path], user_id: str) -> str:
    """Return the tenant that has events of a user in files."""
    from tenantwatch.commands.input import opened
    from tenantwatch.lines import read_lines

    found: set[str] = set()
    for file in files:
        with opened(str(file)) as source:
            for batch in read_lines(source.lines(), []):
                users, tenants = batch.columns["user_id"], batch.columns["tenant_id"]
                found.update(tenants[row] for row, one in enumerate(users) if one == user_id)
    return _only(sorted(found))


def _only(tenant_ids: list[str]) -> str:
    if len(tenant_ids) != 1:
        named = f"{len(tenant_ids):,} tenants: {', '.join(tenant_ids[:5])}" if tenant_ids else "no tenant"
        raise typer.BadParameter(f"say whose user it is, there is {named}", param_hint="--tenant")
    return tenant_ids[0]


def _over_files(trial: "WhyNot", suspect: "Suspect", files: list[Path], tenants: Path | None) -> None:
    from tenantwatch.backtest import Backtest
    from tenantwatch.commands.backtest import read_settings
    from tenantwatch.commands.feeds import feed_files, locate_here

    run = Backtest([trial], read_settings(tenants), locate_here())
    feed_files(run, list(map(str, files)), suspect.tenant_id, None)


def _over_store(suspect: "Suspect", change: "Change | None", since: datetime, until: datetime) -> "WhyNot":
    from tenantwatch.backtest import Backtest
    from tenantwatch.commands.feeds import feed_store, locate_here, settings_then
    from tenantwatch.commands.tenants import find_tenant
    from tenantwatch.control import Control
    from tenantwatch.people import stored_user_id
    from tenantwatch.why_not import WhyNot

    with Control(Settings()) as control:
        tenant = find_tenant(control, suspect.tenant_id)
        # The trail may know the user by a pseudonym only.
        stored = stored_user_id(control, tenant, suspect.user_id)
        trial = WhyNot(suspect._replace(user_id=stored), change)
        settings_of = settings_then(control, suspect.tenant_id)
        run = Backtest([trial], locate=locate_here())
        feed_store(run, control, suspect.tenant_id, settings_of, since, until)
    audit_history(suspect.tenant_id, "why-not", run.events.total(), stored, "person")
    return trial


def _as_json(verdict: "Verdict") -> dict[str, Any]:
    from schemas.alert import from_ms, rfc3339

    closest, alert = verdict.closest, verdict.alert
    point = closest and {
        "time": rfc3339(from_ms(closest.time_ms)),
        "event_id": closest.event_id,
        "score": closest.score,
        "threshold": closest.threshold if isfinite(closest.threshold) else None,
        "entity": verdict.entity and verdict.entity.model_dump(),
    }
    return {
        "kind": verdict.kind,
        "detector": verdict.detector,
        "rule": verdict.rule,
        "closest": point,
        "alert_id": alert.alert_id if alert else None,
        "reason": verdict.reason or None,
    }


def _print(verdicts: "list[Verdict]") -> None:
    from schemas.alert import from_ms

    def closest(verdict: "Verdict") -> str:
        if verdict.closest is None or verdict.reason:
            return ""
        if not verdict.closest.threshold:
            return "at once"
        return f"{number(verdict.closest.score)} of {number(verdict.closest.threshold)}"

    def when(verdict: "Verdict") -> str:
        shown = verdict.closest is not None and not verdict.reason
        return f"{from_ms(verdict.closest.time_ms):%Y-%m-%d %H:%M:%SZ}" if shown and verdict.closest else ""

    def said(verdict: "Verdict") -> str:
        if verdict.reason:
            return f"does not apply: {verdict.reason}"
        assert verdict.entity is not None
        raised = f"alert {verdict.alert.alert_id[:ID_CHARACTERS]}, " if verdict.alert else ""
        return f"{raised}counted for {verdict.entity.type} {verdict.entity.value}"

    print_table(
        {
            "detector": lambda verdict: verdict.detector,
            "rule": lambda verdict: verdict.rule,
            "looks at": lambda verdict: verdict.kind,
            "closest": closest,
            "when": when,
            "": said,
        },
        verdicts,
        "",
    )
