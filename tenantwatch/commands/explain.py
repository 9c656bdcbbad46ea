"""Why an alert was raised, from the store or from a file."""

from datetime import datetime
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.alerts import AlertId, Reveal, print_alert, print_people, print_revisions
from tenantwatch.commands.auditing import audit_history
from tenantwatch.commands.backtest import OwnRules, change_of
from tenantwatch.commands.chart import Point, chart
from tenantwatch.commands.output import (
    AsJson,
    Cell,
    fail,
    moment,
    print_json,
    print_line,
    print_table,
)
from tenantwatch.commands.overrides import Set, read_overrides
from tenantwatch.commands.when import Learn, parse_when
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from tenantwatch.backtest import Change
    from tenantwatch.explain import Explanation, Span

# What a table of events has no room for; --json prints it.
HIDDEN = frozenset(
    {"event_id", "tenant_id", "user_agent", "session_id", "trace_id", "token_id", "attributes", "http_path"}
)

FromFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--file",
        help="Not the store's events, but those of this file: NDJSON, plain or gzip. "
        "As often as there are files, in the order of `backtest`.",
    ),
]
FileTenants = Annotated[
    Path | None, typer.Option("--tenants", help="Tenants' settings for the file; others have the defaults.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(explain)


def explain(
    alert_id: AlertId,
    files: FromFiles = None,
    tenants: FileTenants = None,
    learn: Learn = "14d",
    settings: Set = None,
    rules: OwnRules = None,
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Say why an alert was raised: its events, their scores against the threshold, what is usual, what to do.

    The tenant's events are put before the detectors once more, with the settings that they came with.
    """
    change = change_of(read_overrides(settings or []), rules)
    if files:
        found, people = _from_files(files, tenants, alert_id, change), dict[str, str]()
    else:
        found, people = _from_store(alert_id, learn, change, reveal)
    if as_json:
        print_json(_as_json(found) | {"people": people})
    else:
        _print(found)
        print_people(people)


def _from_store(
    alert_id: str, learn: str, change: "Change | None", reveal: bool
) -> "tuple[Explanation, dict[str, str]]":
    from schemas.alert import from_ms, rfc3339
    from schemas.batch import FIELDS
    from schemas.received_alert import ReceivedAlert
    from tenantwatch.backtest import Backtest
    from tenantwatch.commands.feeds import feed_store, locate_here, settings_then
    from tenantwatch.commands.privacy import actor
    from tenantwatch.control import Control
    from tenantwatch.explain import HOUR_MS, Explanation, Replay, Span, hours_of, kinds_of
    from tenantwatch.people import people_in

    with Control(Settings()) as control:
        revisions = [ReceivedAlert.model_validate(one) for one in control.get(f"/alerts/{alert_id}")]
        alert = revisions[-1]
        of = {"tenant_id": alert.tenant_id}
        ids = alert.evidence.event_ids
        for kind in kinds_of(alert):
            events = control.get(f"/history/{kind}/events", event_id=ids, **of) if ids else []
            if events:
                break
        field = alert.entity.type if alert.entity.type in FIELDS[kind] else None
        spans = control.get(
            f"/history/{kind}/spans",
            start_ms=hours_of(alert),
            length_ms=HOUR_MS,
            field=field,
            value=alert.entity.value,
            **of,
        )
        replay = Replay(alert, change)
        since = parse_when(learn, alert.first_time)
        settings_of = settings_then(control, alert.tenant_id)
        run = Backtest([replay], locate=locate_here())
        feed_store(run, control, alert.tenant_id, settings_of, since, from_ms(replay.until_ms))
        told = [alert.model_dump(mode="json"), events]
        people = people_in(control, alert.tenant_id, told, actor=actor(), reveal=reveal)
    audit_history(alert.tenant_id, "explain", run.events.total(), alert.alert_id, "alert")
    raised = bool(replay.revisions)
    for event in events:
        event["time"] = rfc3339(datetime.fromisoformat(event["time"]))
    usual = [Span(**span) for span in spans]
    return Explanation(revisions, kind, replay.series(), raised, events, usual), people


def _from_files(
    files: list[Path], tenants: Path | None, alert_id: str, change: "Change | None"
) -> "Explanation":
    from tenantwatch.backtest import Backtest, Trial
    from tenantwatch.commands.backtest import read_settings
    from tenantwatch.commands.feeds import feed_files, locate_here
    from tenantwatch.explain import Explanation, Replay, Witness, compares_tenants, kinds_of

    named = list(map(str, files))
    if "-" in named:
        raise typer.BadParameter("name a file: it is read twice", param_hint="--file")
    settings = read_settings(tenants)
    first = Trial(change)
    feed_files(Backtest([first], settings, locate_here()), named, None, None)
    alerts = [alert for alert in first.alerts() if alert.alert_id.startswith(alert_id)]
    if len(alerts) != 1:
        raise fail(
            f"{'no alert' if not alerts else 'more than one alert'} of {' '.join(named)} begins with "
            f"{alert_id}; `tenantwatch backtest {' '.join(named)}` lists them"
        )
    [alert] = alerts
    witnesses = [Witness(alert, kind) for kind in kinds_of(alert)]

    def look(batch: Any) -> None:
        for witness in witnesses:
            witness.look(batch)

    replay = Replay(alert, change)
    run = Backtest([replay], settings, locate_here())
    only = None if compares_tenants(alert) else alert.tenant_id
    feed_files(run, named, only, None, look, tell=False)
    seen = max(witnesses, key=lambda witness: len(witness.events))
    return Explanation(replay.revisions, seen.kind, replay.series(), True, seen.events, seen.spans())


def _as_json(found: "Explanation") -> dict[str, Any]:
    from schemas.alert import from_ms, rfc3339
    from schemas.attack import technique_name

    alert = found.alert
    return {
        "alert": alert.model_dump(mode="json"),
        "events": found.events,
        "score": {
            "raised_again": found.raised,
            "points": [
                {"time": time, "score": score, "threshold": threshold if isfinite(threshold) else None}
                for time, score, threshold in _points(found)
            ],
        },
        "usual": [{"start": rfc3339(from_ms(span.start_ms)), **_counts(span)} for span in found.spans],
        "attack": [{"id": one, "name": technique_name(one)} for one in alert.attack],
        "runbook": alert.runbook,
        "revisions": [revision.model_dump(mode="json") for revision in found.revisions],
    }


def _points(found: "Explanation") -> list[Point]:
    from schemas.alert import from_ms, rfc3339

    series = found.series.thinned()
    columns = (series.time_ms.tolist(), series.scores.tolist(), series.thresholds.tolist())
    return [
        (rfc3339(from_ms(time_ms)), score, threshold)
        for time_ms, score, threshold in zip(*columns, strict=True)
    ]


def _shares(points: list[Point]) -> list[Point]:
    """Return scores in units of their threshold, where rows were put to the test by several."""
    shares = [score / threshold if threshold else inf for _, score, threshold in points]
    most = max((share for share in shares if isfinite(share)), default=1.0)
    return [(time, min(share, most), 1.0) for (time, _, _), share in zip(points, shares, strict=True)]


def _counts(span: "Span") -> dict[str, int]:
    return {"events": span.events, "failures": span.failures, "of_entity": span.of_entity}


def _print(found: "Explanation") -> None:
    alert = found.alert.model_dump(mode="json")
    print_alert(alert)
    points = _points(found)
    told = [(one.last_time.isoformat(), one.score, one.threshold) for one in found.revisions]
    what = f"of {alert['entity']['type']} {alert['entity']['value']}" if points else "as of its revisions"
    several = len({threshold for _, _, threshold in points}) > 1
    _head(f"score {'by' if several else 'against'} threshold, {what}")
    for line in chart(_shares(points) if several else points or told):
        print_line(line)
    if not found.raised:
        print_line(f"seen again, they did not raise it: {_why_not_again(found)}")
    _print_events(found)
    _print_usual(found)
    print_revisions([revision.model_dump(mode="json") for revision in found.revisions])


def _why_not_again(found: "Explanation") -> str:
    from tenantwatch.explain import compares_tenants

    if compares_tenants(found.alert):
        return "it compares tenants, and only this one's events were seen again"
    return "what was learned before them is not all stored, or other settings were tried"


def _print_events(found: "Explanation") -> None:
    _head("its first events")
    named = dict.fromkeys(name for event in found.events for name in event)
    columns = {name: _cell_of(name) for name in named if name not in HIDDEN}
    print_table(columns, found.events, "none of them is there any more")


def _cell_of(name: str) -> Cell:
    return lambda event: event.get(name)


def _print_usual(found: "Explanation") -> None:
    from schemas.alert import from_ms, rfc3339

    entity, (*before, now) = found.alert.entity, found.spans
    _head(
        f"{found.kind} events of {found.alert.tenant_id} in that hour, and at the same hour of weeks before"
    )
    columns: dict[str, Cell] = {
        "hour": lambda span: moment(rfc3339(from_ms(span.start_ms))),
        "events": lambda span: f"{span.events:,}",
        "failures": lambda span: f"{span.failures:,}",
    }
    if any(span.of_entity for span in found.spans):
        columns[f"of {entity.value}"] = lambda span: f"{span.of_entity:,}"
    # Where the stored trail begins later, there were none.
    known = [span for span in before if any(one.events for one in before if one.start_ms <= span.start_ms)]
    print_table(columns, [*known, now], "")
    if len(known) < len(before):
        print_line(f"none in the {len(before) - len(known)} weeks before these")


def _head(text: str) -> None:
    print_line("")
    print_line(f"{text}:", "bold")
