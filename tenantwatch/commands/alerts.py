"""Looking at alerts: listing them, one in full, and new ones as they come."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import typer

from tenantwatch.commands.output import (
    SEVERITY_STYLE,
    AsJson,
    Cell,
    fail,
    moment,
    note,
    print_json,
    print_json_lines,
    print_line,
    print_table,
)
from tenantwatch.commands.when import Since, as_time
from tenantwatch.settings import Settings

app = typer.Typer(no_args_is_help=True)
POLL_S: Final = 1.0
REVISIONS_A_POLL: Final = 10_000
# A revision can become visible after one that was published later: workers store in their own time.
OVERLAP: Final = timedelta(seconds=60)
ID_CHARACTERS: Final = 8  # what `show` takes, and short enough to leave room for the summary


# As in the contract, whose models help would wait for.
Severity = Literal["low", "medium", "high", "critical"]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")]
OfDetector = Annotated[str | None, typer.Option("--detector", help="Of this detector only.")]
OfSeverity = Annotated[Severity | None, typer.Option("--severity", help="This severity and above.")]


def print_alerts(
    alerts: Sequence[dict[str, Any]],
    empty: str,
    *,
    with_status: bool = True,
    first: Mapping[str, Cell] = MappingProxyType({}),
) -> None:
    """Print alerts as a table, in their order.

    Parameters
    ----------
    empty
        What to say where there are none.
    first
        Columns before the usual ones.
    """
    columns: dict[str, Cell] = {
        **first,
        "alert": lambda alert: alert["alert_id"][:ID_CHARACTERS],
        "detected": lambda alert: moment(alert["detected_at"]),
        "severity": lambda alert: alert["severity"],
        **({"status": lambda alert: alert["status"]} if with_status else {}),
        "tenant": lambda alert: alert["tenant_id"],
        "summary": lambda alert: alert["summary"],
    }
    print_table(columns, alerts, empty)


def _alert_id(value: str) -> str:
    if not value.isalnum():
        raise typer.BadParameter("use the id, or its first characters, as `tenantwatch alerts list` shows it")
    return value


@app.command("list")
def list_alerts(
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    tenant: OfTenant = None,
    detector: OfDetector = None,
    severity: OfSeverity = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List open alerts, the latest first."""
    from tenantwatch.control import Control

    with Control(Settings()) as control:
        alerts = control.get(
            "/alerts",
            tenant_id=tenant,
            status=None if everything else "open",
            detector=detector,
            severity=severity,
            published_after=as_time(since),
            limit=limit,
        )
    if as_json:
        print_json(alerts)
        return
    empty = "no alerts" if everything else "no open alerts; --all shows resolved ones too"
    print_alerts(alerts, empty, with_status=everything)
    if len(alerts) == limit:
        note(f"the latest {limit:,}; --limit shows more")


AlertId = Annotated[
    str,
    typer.Argument(
        help="The id, or a beginning that no other alert has.", metavar="ALERT", callback=_alert_id
    ),
]


Reveal = Annotated[
    bool, typer.Option("--reveal", help="Show who is behind pseudonyms, not masked; it is noted.")
]


@app.command()
def show(alert_id: AlertId, reveal: Reveal = False, as_json: AsJson = False) -> None:
    """Show one alert in full: evidence, what to do, and how it developed."""
    from tenantwatch.commands.privacy import actor
    from tenantwatch.control import Control
    from tenantwatch.people import people_in

    with Control(Settings()) as control:
        revisions = control.get(f"/alerts/{alert_id}")
        alert = revisions[-1]
        people = people_in(control, alert["tenant_id"], alert, actor=actor(), reveal=reveal)
    if as_json:
        print_json({**alert, "revisions": revisions, "people": people})
    else:
        print_alert(alert)
        print_people(people)
        print_revisions(revisions)


def print_people(people: Mapping[str, str]) -> None:
    """Print who is behind the pseudonyms of an output, after an empty line."""
    if people:
        print_line("")
        for pseudonym, who in people.items():
            print_line(f"{pseudonym}  {who}")


def print_alert(alert: dict[str, Any]) -> None:
    """Print an alert in full, as contract object."""
    from schemas.attack import technique_name

    print_line(alert["summary"], SEVERITY_STYLE[alert["severity"]])
    entity, evidence = alert["entity"], alert["evidence"]
    facts = {
        "alert": alert["alert_id"],
        "severity": f"{alert['severity']}, {alert['status']}",
        "detector": f"{alert['detector']}: {alert['classification']}",
        "tenant": alert["tenant_id"],
        "entity": f"{entity['type']} {entity['value']}",
        "detected": f"{moment(alert['detected_at'])} (event time)",
        "first, last": f"{moment(alert['first_time'])} to {moment(alert['last_time'])}",
        "events": f"{alert['event_count']:,}",
        "score": f"{alert['score']:g}, threshold {alert['threshold']:g}",
        "ATT&CK": ", ".join(f"{one} {technique_name(one) or ''}".strip() for one in alert["attack"]),
        **{f"  {name}": str(value) for name, value in evidence["numbers"].items()},
        "event ids": ", ".join(evidence["event_ids"]),
        "what to do": alert["runbook"],
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            print_line(f"{name:{width}}  {value}")


def print_revisions(revisions: Sequence[dict[str, Any]]) -> None:
    """Print how an alert developed, after an empty line."""
    print_line("")
    columns: dict[str, Cell] = {
        "revision": lambda revision: revision["revision"],
        "published": lambda revision: moment(revision["published_at"]),
        "status": lambda revision: revision["status"],
        "severity": lambda revision: revision["severity"],
        "events": lambda revision: f"{revision['event_count']:,}",
        "last event": lambda revision: moment(revision["last_time"]),
    }
    print_table(columns, revisions, "")


@app.command()
def tail(
    tenant: OfTenant = None,
    detector: OfDetector = None,
    severity: OfSeverity = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Follow alerts: print each revision as it is published, until Ctrl-C. With --json one a line."""
    from tenantwatch.control import running

    settings = Settings()
    # Without a worker this would hold the store, and no worker could start beside it.
    if settings.clickhouse is None and not running(settings):
        raise fail(f"no worker runs with the data directory {settings.data_dir}; start one: `tenantwatch up`")
    filters = {"tenant_id": tenant, "detector": detector, "severity": severity}
    try:
        for revision in _follow(settings, as_time(since) or datetime.now(UTC), filters):
            if as_json:
                print_json_lines([revision])
            else:
                head = f"{moment(revision['detected_at'])} {revision['alert_id'][:ID_CHARACTERS]}"
                what = f"{revision['severity']:8} {revision['status']:8} {revision['tenant_id']}"
                print_line(f"{head} {what}: {revision['summary']}", SEVERITY_STYLE[revision["severity"]])
    except KeyboardInterrupt:
        pass  # the way to end it


def _follow(settings: Settings, since: datetime, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from tenantwatch.control import Control

    shown: dict[tuple[str, int], datetime] = {}
    start = since
    with Control(settings) as control:
        note("following alerts; Ctrl-C ends it")
        while True:
            found = control.get("/revisions", published_after=since, limit=REVISIONS_A_POLL, **filters)
            for revision in found:
                key = (revision["alert_id"], revision["revision"])
                if key not in shown:
                    shown[key] = datetime.fromisoformat(revision["published_at"])
                    yield revision
            newest = max(shown.values(), default=start)
            if len(found) == REVISIONS_A_POLL:
                since = newest  # there is more, and looking back would bring the same again
                continue
            since = max(start, newest - OVERLAP)
            shown = {key: published for key, published in shown.items() if published > since}
            time.sleep(POLL_S)
