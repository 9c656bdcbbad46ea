"""Is every event accounted for?"""

from typing import Any

import typer

from tenantwatch.commands.output import AsJson, note, print_json, print_line, print_table
from tenantwatch.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(reconcile)


def reconcile(as_json: AsJson = False) -> None:
    """Check that the ledger accounts for every offset, and that the store holds what it says.

    A worker does the same by itself every minute; its metric is tenantwatch_reconciliation_gaps.
    Exit code 1 if anything does not add up.
    """
    from streams.inspection import committed_offsets
    from tenantwatch.control import Control, running

    settings = Settings()
    with Control(settings) as control:
        bootstrap = settings.kafka_brokers or (control.get("/status")["kafka"] if running(settings) else None)
        # Asked first: what is committed now is in the ledger already.
        committed = committed_offsets(bootstrap) if bootstrap else None
        found: dict[str, Any] = control.request("POST", "/reconciliation", json=committed)
        found["seals"] = control.get("/trail/seals")
    if as_json:
        print_json({**found, "committed_checked": committed is not None})
    else:
        _print(found, committed is not None)
    if found["gaps"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any], committed_checked: bool) -> None:
    by_topic: dict[str, dict[str, int]] = {}
    for account in found["accounts"]:
        sums = by_topic.setdefault(
            account["topic"], {"partitions": 0, "rows": 0, "rejected": 0, "removed": 0}
        )
        sums["partitions"] += 1
        for name in ("rows", "rejected", "removed"):
            sums[name] += account[name]
    print_table(
        {
            "topic": lambda row: row["topic"],
            "partitions": lambda row: row["partitions"],
            "events stored": lambda row: f"{row['rows']:,}",
            "rejected": lambda row: f"{row['rejected']:,}",
            "removed by retention": lambda row: f"{row['removed']:,}",
        },
        [{"topic": topic, **sums} for topic, sums in sorted(by_topic.items())],
        "nothing has been handled yet",
    )
    for gap in found["gaps"]:
        print_line(f"{gap['topic']} {gap['partition']}: {gap['kind']}: {gap['detail']}", "bold red")
    if not committed_checked:
        note("Kafka was not asked what is committed: no worker runs here and TENANTWATCH_KAFKA is not set")
    if waiting := found["seals"]["unsealed"]:
        age_s = found["seals"]["unsealed_age_s"]
        note(f"{waiting:,} rows are not sealed yet, the oldest for {age_s:.0f} s; `tenantwatch verify`")
    if not found["gaps"] and found["accounts"]:
        print_line("every offset and every row is accounted for", "green")
