"""Tables of what the detectors found, for the terminal and for docs/detection.md."""

from collections.abc import Callable
from typing import Any, Final

from bench.markdown import table

Result = dict[str, Any]


def _of_attacks(part: Result) -> str:
    head = (
        "file",
        "slowed",
        "attacks",
        "found",
        "precision",
        "false a tenant-week",
        "median s",
        "p95 s",
        "alerts",
        "reaching outside",
    )
    names = (
        "attacks",
        "found",
        "precision",
        "false_alerts_per_tenant_week",
        "median_s",
        "p95_s",
        "alerts",
        "reaching_outside",
    )
    rows = [
        (file, factor.removeprefix("x"), *(found[name] for name in names))
        for file, one in part.items()
        for factor, found in one.items()
        if isinstance(found, dict)
    ]
    return table(head, rows)


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
            ", ".join(one["benign"]) or "nobody",
            "yes" if one["benign_silent"] else "**no**",
        )
        for name, one in found["sshd"].items()
    ]
    head = ("log", "failures", "from named addresses", "share", "without address", "benign", "silent")
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


TABLES: Final[dict[str, Callable[[Result], str]]] = {
    "logins": lambda found: _of_attacks(found["logins"]),
    "slowed": lambda found: _of_attacks(found["slowed"]),
    "windows": windows,
    "sshd": sshd,
    "nab": series,
    "benign": benign,
    "cost": cost,
}
