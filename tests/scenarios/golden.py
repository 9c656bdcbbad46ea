"""Golden scenarios: a file with events, written short, and the alerts that they must give.

``<detector>_<class>_firing.json`` must raise that class, ``…_silent.json`` must raise nothing. An entry of
``events`` is an event, or ``{"count", "start", "every_s", "event", "cycle"}``: so many copies of `event`
from `start` on, in which ``{i}`` is the number of the copy, and each field in `cycle` goes round a list;
with ``"days"``, the same again on so many days.
``python -m tests.scenarios`` writes the alerts anew; read the difference before keeping it.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from schemas.alert import Alert
from schemas.tenant import Tenant
from streams.geography import Locate, locate_with, located
from tests.backtested import backtest

FOLDER = Path(__file__).parent
STABLE = (
    "detector",
    "classification",
    "severity",
    "status",
    "tenant_id",
    "entity",
    "event_count",
    "detected_at",
)


def expand(scenario: dict[str, Any]) -> list[bytes]:
    """Return the scenario's events as lines, in order of time."""
    events = [event for entry in scenario["events"] for event in _copies(entry)]
    events.sort(key=lambda event: datetime.fromisoformat(event["time"]))
    common = scenario.get("common", {})
    return [json.dumps({"event_id": f"e{i}", **common, **event}).encode() for i, event in enumerate(events)]


def _copies(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "count" not in entry:
        yield entry
        return
    start = datetime.fromisoformat(entry["start"])
    for day, i in product(range(entry.get("days", 1)), range(entry["count"])):
        event = {
            name: value.replace("{i}", str(i)) if isinstance(value, str) else value
            for name, value in entry["event"].items()
        }
        cycled = {name: values[i % len(values)] for name, values in entry.get("cycle", {}).items()}
        time = start + timedelta(days=day, seconds=i * entry["every_s"])
        yield {**event, **cycled, "time": time.isoformat(timespec="milliseconds")}


def outcome(scenario: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the stable fields of the alerts that the events give."""
    return [stable(alert) for alert in alerts_of(scenario)]


def alerts_of(scenario: dict[str, Any]) -> list[Alert]:
    """Return the alerts that the events give."""
    result = backtest(expand(scenario), tenants_of(scenario), locate_of(scenario))
    assert not result.rejected, result.rejected[:3]
    return result.alerts


def tenants_of(scenario: dict[str, Any]) -> dict[str, Tenant]:
    """Return the settings of the scenario's tenants."""
    return {tenant.tenant_id: tenant for tenant in map(Tenant.model_validate, scenario["tenants"])}


def locate_of(scenario: dict[str, Any]) -> Locate:
    """Return what adds the positions of the scenario's ``places``: address to latitude and longitude."""
    places = scenario.get("places")
    return partial(located, find=places.get) if places else locate_with(None)


def stable(alert: Alert) -> dict[str, Any]:
    """Return what a golden file keeps of an alert."""
    return json.loads(alert.model_dump_json(include=set(STABLE)))


def files() -> list[Path]:
    """Return every scenario."""
    return sorted(FOLDER.glob("*.json"))


def quick(path: Path) -> bool:
    """Tell whether a scenario is short, or the one long one of a detector that has no others."""
    if path.stem == "service_health_volume_anomaly_firing":
        return True
    events = json.loads(path.read_text())["events"]
    return sum(entry.get("count", 1) * entry.get("days", 1) for entry in events) < 2_000
