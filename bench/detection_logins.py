"""Simulated logins with attacks among them, as they were and slowed down: found, how soon, and what else.

``DIR/logins/NAME.ndjson.gz`` holds events, ``NAME_attacks.csv`` the attacks: start, end, source_ip, in UTC.
"""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.detection_trials import try_events
from schemas.alert import Alert, from_ms, rfc3339, to_ms
from schemas.batch import Bools, Int64s
from tenantwatch.backtest import WEEK_MS

FACTORS: Final = (1, 10, 100)
# An alert of an attack's events so long after its end still tells of it: a minute's window may have to end
# first.
TAIL_MS: Final = 120_000
# What an alert is called that tells of a login by somebody who guessed.
TAKEN: Final = "success_after_failures"


@dataclass(frozen=True)
class Attacks:
    """When the attacks of a file were.

    Parameters
    ----------
    start_ms, end_ms
        ``(w,)`` in order of start; they may overlap.
    """

    start_ms: Int64s
    end_ms: Int64s

    def slowed(self, factor: int) -> "Attacks":
        """Return them stretched around their starts."""
        return Attacks(self.start_ms, self.start_ms + factor * (self.end_ms - self.start_ms))


@dataclass(frozen=True)
class Logins:
    """Events, and which of them belong to an attack.

    Parameters
    ----------
    lines
        ``n`` events as JSON, in order of time.
    time_ms
        ``(n,)``
    attack
        ``(n,)`` position of the attack that an event is part of; -1: none.
    event_ids, success
        ``n`` and ``(n,)``
    tenant_weeks
        Weeks from the first to the last, times tenants.
    """

    lines: Sequence[bytes]
    time_ms: Int64s
    attack: Int64s
    event_ids: Sequence[str]
    success: Bools
    tenant_weeks: float

    def attack_of(self) -> dict[str, int]:
        """Return the attack that an event is part of, by the id of each that is part of one."""
        return {self.event_ids[row]: int(self.attack[row]) for row in np.flatnonzero(self.attack >= 0)}

    def accused(self, alerts: Iterable[Alert]) -> dict[str, int]:
        """Return how many logins of attackers, and of others, are in the evidence of `TAKEN` alerts."""
        told = {i for alert in alerts if alert.classification == TAKEN for i in alert.evidence.event_ids}
        named = np.array([event_id in told for event_id in self.event_ids], np.bool_)
        theirs = self.attack >= 0
        return {
            "attackers_logins": int(np.count_nonzero(theirs & self.success)),
            "attackers_logins_alerted": int(np.count_nonzero(theirs & self.success & named)),
            "benign_logins_accused": int(np.count_nonzero(~theirs & self.success & named)),
        }

    def slowed(self, attacks: Attacks, factor: int) -> list[bytes]:
        """Return the lines with attacks stretched around their starts; what is benign stays where it is."""
        start_ms = attacks.start_ms[self.attack]
        moved = self.attack >= 0
        time_ms = np.where(moved, start_ms + factor * (self.time_ms - start_ms), self.time_ms)
        lines = list(self.lines)
        for row in np.flatnonzero(time_ms != self.time_ms).tolist():
            event = json.loads(lines[row])
            lines[row] = json.dumps(event | {"time": rfc3339(from_ms(int(time_ms[row])))}).encode()
        return [lines[row] for row in np.argsort(time_ms, kind="stable").tolist()]


def read_attacks(path: Path) -> Attacks:
    """Read a file of attacks; the milliseconds that they begin and end in are part of them."""
    with path.open(newline="") as file:
        rows = sorted((_ms(row["start"]), _ms(row["end"])) for row in csv.DictReader(file))
    starts, ends = zip(*rows, strict=True)
    return Attacks(np.array(starts, np.int64), np.array(ends, np.int64) + 1)


def _ms(text: str) -> int:
    time = datetime.fromisoformat(text)
    return to_ms(time if time.tzinfo else time.replace(tzinfo=UTC))


def attribute(lines: Sequence[bytes], attacks: Attacks) -> Logins:
    """Tell which events belong to attacks: in a window, and by a user from an address never seen outside.

    Whoever logs in as usual while an attack goes on is benign.

    Parameters
    ----------
    lines
        In order of time.
    """
    events = [json.loads(line) for line in lines]
    time_ms = np.array([_ms(event["time"]) for event in events], np.int64)
    window = np.searchsorted(attacks.start_ms, time_ms, side="right") - 1
    window[time_ms > attacks.end_ms[window]] = -1
    pairs = [(event["user_id"], event["source_ip"]) for event in events]
    usual = {pair for pair, at in zip(pairs, window.tolist(), strict=True) if at < 0}
    unusual = np.array([pair not in usual for pair in pairs], np.bool_)
    weeks = float(time_ms[-1] - time_ms[0]) / WEEK_MS
    tenants = len({event["tenant_id"] for event in events})
    success = np.array([event["outcome"] == "success" for event in events], np.bool_)
    event_ids = [event["event_id"] for event in events]
    return Logins(lines, time_ms, np.where(unusual, window, -1), event_ids, success, tenants * weeks)


def judge(
    alerts: Sequence[Alert], attacks: Attacks, attack_of: Mapping[str, int], tenant_weeks: float
) -> dict[str, Any]:
    """Return what alerts are worth.

    An alert belongs to every attack of which it names an event, and from whose start until `TAIL_MS` after
    whose end it was detected: slowed attacks go on for days, and what is alerted meanwhile need not be
    theirs. One that belongs to none is false. An attack is found if an alert belongs to it.

    Parameters
    ----------
    alerts
        The last revision of each: it names all events that an earlier one did.
    attack_of
        Event id to the position of its attack; events of no attack are not there.
    """

    def times(name: str) -> Int64s:
        return np.array([to_ms(getattr(alert, name)) for alert in alerts], np.int64)[:, None]

    detected_ms, until_ms = times("detected_at"), attacks.end_ms + TAIL_MS
    names = np.zeros((len(alerts), len(attacks.start_ms)), np.bool_)
    for row, alert in enumerate(alerts):
        names[row, [attack_of[one] for one in alert.evidence.event_ids if one in attack_of]] = True
    belongs = names & (attacks.start_ms <= detected_ms) & (detected_ms <= until_ms)
    within = belongs & (attacks.start_ms <= times("first_time")) & (times("last_time") <= until_ms)
    inside, found = np.any(belongs, axis=1), np.any(belongs, axis=0)
    delay_ms = np.where(belongs, detected_ms - attacks.start_ms, np.iinfo(np.int64).max)[:, found]
    delays_s = np.sort(delay_ms.min(axis=0, initial=np.iinfo(np.int64).max)) / 1_000
    false = int(np.count_nonzero(~inside))
    return {
        "attacks": len(found),
        "found": int(np.count_nonzero(found)),
        "recall": round(float(found.mean()), 4),
        "alerts": len(alerts),
        "false_alerts": false,
        "precision": round(1 - false / len(alerts), 4) if alerts else None,
        "tenant_weeks": round(tenant_weeks, 2),
        "false_alerts_per_tenant_week": round(false / tenant_weeks, 4),
        "reaching_outside": int(np.count_nonzero(inside & ~within.any(axis=1))),
        "median_s": round(float(np.median(delays_s)), 3) if len(delays_s) else None,
        "p95_s": round(float(np.percentile(delays_s, 95)), 3) if len(delays_s) else None,
        "missed": np.flatnonzero(~found).tolist(),
        "delays_s": delays_s.tolist(),
    }


def run(folder: Path, factors: Sequence[int] = FACTORS, budgets: Sequence[float] = ()) -> dict[str, Any]:
    """Return what was found in each file, by how much its attacks are slowed.

    Parameters
    ----------
    budgets
        Budgets of false alarms to try besides the default.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.ndjson.gz")):
        name = path.name.removesuffix(".ndjson.gz")
        attacks = read_attacks(path.with_name(f"{name}_attacks.csv"))
        with gzip.open(path) as file:
            logins = attribute(file.read().splitlines(), attacks)
        results: dict[str, Any] = {}
        for factor in factors:
            tried = try_events(logins.slowed(attacks, factor), budgets)
            windows = attacks.slowed(factor)
            verdict = partial(
                judge, attacks=windows, attack_of=logins.attack_of(), tenant_weeks=logins.tenant_weeks
            )
            classes = Counter(alert.classification for alert in tried.alerts)
            result = verdict(tried.alerts)
            results[str(factor)] = {
                **result,
                "missed_tries": [int(np.count_nonzero(logins.attack == i)) for i in result["missed"]],
                **logins.accused(tried.alerts),
                "classifications": dict(classes.most_common()),
                "by_budget": [
                    {name: one[name] for name in ("found", "false_alerts")}
                    for one in map(verdict, tried.by_budget)
                ],
            }
        attack_events = int(np.count_nonzero(logins.attack >= 0))
        found[name] = {"events": len(logins.lines), "attack_events": attack_events, "by_factor": results}
    return found
