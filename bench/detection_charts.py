"""Charts of what the detectors found: how soon, and what a larger budget of false alarms would find."""

from collections import defaultdict
from math import floor
from pathlib import Path
from typing import Any

from bench.chart import Line, chart
from bench.detection_tables import verdicts

Result = dict[str, Any]


def _by_factor(found: Result) -> dict[str, list[Result]]:
    """Return the verdicts of all files by how much attacks are slowed."""
    chosen: defaultdict[str, list[Result]] = defaultdict(list)
    for _, factor, verdict in verdicts(found, "logins", "slowed"):
        chosen[f"x{factor}"].append(verdict)
    return chosen


def time_to_detection(found: Result) -> str:
    """Return a chart of the share of attacks that were alerted by some time after they began."""
    lines: list[Line] = []
    for name, files in _by_factor(found).items():
        attacks = sum(one["attacks"] for one in files)
        delays = sorted(max(delay, 1.0) for one in files for delay in one["delays_s"])
        points = [(1.0, 0.0), *((delay, (i + 1) / attacks) for i, delay in enumerate(delays))]
        lines.append(Line(name, points, steps=True))
    return chart(
        "Time to detection, attacks as they were and slowed",
        "seconds from an attack's start to its first alert",
        "share of all attacks",
        lines,
    )


def recall_by_budget(found: Result) -> str:
    """Return a chart of recall against false alarms, on logins and a benign month together."""
    benign, budgets = found["benign"], found["budgets"]
    lines: list[Line] = []
    for name, files in _by_factor(found).items():
        attacks = sum(one["attacks"] for one in files)
        weeks = benign["tenant_weeks"] + sum(one["tenant_weeks"] for one in files)
        points = []
        for i, benign_false in enumerate(benign["by_budget"]):
            false = benign_false + sum(one["by_budget"][i]["false_alerts"] for one in files)
            recall = sum(one["by_budget"][i]["found"] for one in files) / attacks
            # None at all has no place on an axis of powers: less than half of one.
            points.append((max(false, 0.5) / weeks, recall))
        notes = [f"{budget:g}" for budget in budgets] if not lines else [""] * len(budgets)
        lines.append(Line(name, points, notes))
    return chart(
        "Recall and false alarms by the budget that is set (numbers at points)",
        "false alarms per tenant-week, logins and benign month together",
        "share of attacks found",
        lines,
        # Where they all are; of twentieths, so that each of the axis' five steps is a round number.
        y_low=min(floor(20 * min(y for line in lines for _, y in line.points)), 19) / 20,
    )


def draw(found: Result, folder: Path) -> list[Path]:
    """Write what there are numbers for; return the files."""
    charts = {}
    if {"logins", "slowed"} <= found.keys():
        charts["time-to-detection"] = time_to_detection(found)
        if {"benign", "budgets"} <= found.keys():
            charts["recall-by-budget"] = recall_by_budget(found)
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in charts.items():
        (folder / f"{name}.svg").write_text(svg)
    return [folder / f"{name}.svg" for name in charts]
