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


TABLES: Final[dict[str, Callable[[Result], str]]] = {
    "logins": lambda found: _of_attacks(found["logins"]),
    "slowed": lambda found: _of_attacks(found["slowed"]),
    "windows": windows,
    "sshd": sshd,
}
