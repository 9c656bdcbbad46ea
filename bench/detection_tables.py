"""Tables of what the detectors found, for the terminal and for docs/detection.md."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from bench.markdown import table
from detectors.parameters import DEFAULTS

Result = dict[str, Any]


# Of an attack verdict: name to the head of its column.
ATTACKS: Final = {
    "attacks": "attacks",
    "found": "found",
    "missed_tries": "tries in those missed",
    "precision": "precision",
    "false_alerts_per_tenant_week": "false a tenant-week",
    "median_s": "median s",
    "p95_s": "p95 s",
    "alerts": "alerts",
    "reaching_outside": "reaching outside",
}
TAKEN: Final = {
    "attackers_logins": "attackers' logins",
    "attackers_logins_alerted": "of them alerted",
    "benign_logins_accused": "others' alerted",
}


def verdicts(found: Result, *parts: str) -> list[tuple[str, str, Result]]:
    """Return file, factor and verdict of attacks among logins."""
    return [
        (file, factor, one)
        for part in parts
        for file, result in found[part].items()
        for factor, one in result["by_factor"].items()
    ]


def _verdict_table(columns: dict[str, str], found: Result, *parts: str) -> str:
    rows = [
        (file, factor, *(_shown(one[name]) for name in columns))
        for file, factor, one in verdicts(found, *parts)
    ]
    return table(("file", "slowed", *columns.values()), rows)


def _shown(value: object) -> object:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else value


def budgets(found: Result) -> str:
    """Return attacks found, and false alarms, by budget."""
    every, benign = verdicts(found, "logins", "slowed"), found["benign"]
    rows = [
        (
            f"{budget:g}",
            *(one["by_budget"][i]["found"] for _, _, one in every),
            sum(one["by_budget"][i]["false_alerts"] for _, _, one in every),
            benign["by_budget"][i],
            round(benign["by_budget"][i] / benign["tenant_weeks"], 4),
        )
        for i, budget in enumerate(found["budgets"])
    ]
    heads = (f"{file} x{factor} found" for file, factor, _ in every)
    return table(("budget a week", *heads, "false there", "in the month", "a tenant-week"), rows)


def parameters(_: Result) -> str:
    """Return every parameter with its default; nothing needs to be measured for that."""
    rows = [
        (
            f"`{detector}.{one.name}`",
            getattr(defaults, one.name),
            f"{one.metadata['low']:,} to {one.metadata['high']:,}",
            one.metadata["why"],
        )
        for detector, defaults in DEFAULTS.items()
        for one in fields(defaults)
    ]
    return table(("parameter", "default", "range", "why"), rows)


def windows(found: Result) -> str:
    """Return what was said of each recording."""
    rows = [
        (
            tenant_id,
            one["failures"],
            " or ".join(one["expected"]) or "nothing",
            ", ".join(one["alerts"]) or "nothing",
            "yes" if one["right"] else "**no**",
        )
        for file in found["windows"].values()
        for tenant_id, one in file["tenants"].items()
    ]
    rejected = sum(file["rejected_for_host_names"] for file in found["windows"].values())
    return table(("recording", "failures", "expected", "alerted", "right"), rows) + (
        f"\n{rejected} events were rejected because a host's name stands in source_ip.\n"
    )


def sshd(found: Result) -> str:
    """Return how many failures come from addresses that alerts name."""
    rows = [
        (
            name,
            one["failures"],
            one["from_named_addresses"],
            f"{one['from_named_addresses'] / one['failures']:.1%}",
            one["without_address"],
            len(one["benign"]),
            "yes" if one["benign_silent"] else "**no**",
        )
        for name, one in found["sshd"].items()
    ]
    head = ("log", "failures", "at named addresses", "share", "without address", "who logged in", "unnamed")
    return table(head, rows)


def series(found: Result) -> str:
    """Return NAB's score, and that of each kind of series at the same threshold."""
    nab = found["nab"]
    rows = [(name, one["windows"], one["score"]) for name, one in nab["folders"].items()]
    rows.append(("all", nab["windows"], nab["score"]))
    return table(("series", "windows", "score"), rows) + (
        f"\n{nab['files']} files of {nab['rows']:,} rows; {nab['us_per_row']} µs a row.\n"
    )


def benign(found: Result) -> str:
    """Return false alarms by what they claim, with an example of each."""
    month = found["benign"]
    rows: list[tuple[object, ...]] = [
        (
            name,
            one["false_alerts"],
            round(one["false_alerts"] / month["tenant_weeks"], 4),
            one["examples"][0]["summary"],
        )
        for name, one in month["classifications"].items()
    ]
    rows.append(("all", month["false_alerts"], month["false_alerts_per_tenant_week"], ""))
    return table(("detector/classification", "false alarms", "a tenant-week", "for example"), rows) + (
        f"\n{month['events']:,} events of {month['tenants']} tenants in {month['days']} days, seed "
        f"{month['seed']}; the worst tenant has {month['worst_tenant']} false alarms.\n"
    )


def cost(found: Result) -> str:
    """Return CPU and memory of each detector."""
    names = ("us_per_event", "bytes_per_user", "snapshot_bytes_per_user")
    costs = found["cost"]["detectors"] | {"all": found["cost"]["together"]}
    rows = [(name, *(one[key] for key in names)) for name, one in costs.items()]
    head = ("kind/detector", "CPU µs an event of the kind", "bytes a user", "in a snapshot")
    return table(head, rows) + f"\n{found['cost']['users']:,} users.\n"


# Name to the parts that must have been measured, and what writes it.
TABLES: Final[dict[str, tuple[set[str], Callable[[Result], str]]]] = {
    "logins": ({"logins"}, lambda found: _verdict_table(ATTACKS, found, "logins")),
    "slowed": ({"slowed"}, lambda found: _verdict_table(ATTACKS, found, "slowed")),
    "taken": ({"logins", "slowed"}, lambda found: _verdict_table(TAKEN, found, "logins", "slowed")),
    "windows": ({"windows"}, windows),
    "sshd": ({"sshd"}, sshd),
    "nab": ({"nab"}, series),
    "benign": ({"benign"}, benign),
    "budgets": ({"budgets", "logins", "slowed", "benign"}, budgets),
    "cost": ({"cost"}, cost),
    "parameters": (set(), parameters),
}


def rendered(name: str, found: Result) -> str | None:
    """Return a table; None if something that it shows was not measured."""
    needed, render = TABLES[name]
    return render(found) if needed <= found.keys() else None
