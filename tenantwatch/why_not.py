"""How close each rule came to an alert for one user, and which rules do not apply."""

from collections import Counter
from math import isinf
from typing import NamedTuple

import numpy as np

from detectors.cross_tenant_spray import SprayTeller
from schemas.alert import Alert, Entity, to_ms
from schemas.batch import EventBatch
from schemas.event import KINDS, Kind
from tenantwatch.backtest import Change, Trial
from tenantwatch.recording import Point, Recorder, by_rule, entity_at, of_events, raised, record


class Suspect(NamedTuple):
    """Whose events are asked about.

    Parameters
    ----------
    tenant_id, user_id
        Who.
    source_ip
        Only from there; None: from anywhere.
    since_ms, until_ms
        Only in that time; `until_ms` is not included.
    """

    tenant_id: str
    user_id: str
    source_ip: str | None
    since_ms: int
    until_ms: int

    def rows(self, batch: EventBatch) -> list[int]:
        """Return the positions of the suspect's events."""
        inside = (batch.time_ms >= self.since_ms) & (batch.time_ms < self.until_ms)
        users, addresses = batch.columns["user_id"], batch.columns["source_ip"]
        tenants = batch.columns["tenant_id"]
        return [
            row
            for row in np.flatnonzero(inside & batch.mask()).tolist()
            if users[row] == self.user_id
            and tenants[row] == self.tenant_id
            and self.source_ip in (None, addresses[row])
        ]


class Verdict(NamedTuple):
    """What one rule has to say of the suspect.

    Parameters
    ----------
    kind, detector, rule
        Which rule, a tenant's own by its title, and the kind of events that it looks at.
    closest
        The suspect's event that came closest to an alert; None where none was put to the test.
    share
        Its score by its threshold.
    alert
        What the rule raised about the entity that this event counts for, if it did.
    reason
        Why the rule does not apply, in words; empty where it does.
    """

    kind: Kind
    detector: str
    rule: str
    closest: Point | None
    share: float
    alert: Alert | None
    reason: str

    @property
    def entity(self) -> Entity | None:
        """Whom the closest event counts for."""
        return self.closest and entity_at(self.detector, self.closest.key)


class WhyNot(Trial):
    """Detectors with an ear at every event of a suspect.

    Parameters
    ----------
    suspect
        Whose events.
    change
        As for `Trial`.

    Attributes
    ----------
    events
        How many of the suspect's events detectors looked at, by kind.
    """

    def __init__(self, suspect: Suspect, change: Change | None = None) -> None:
        super().__init__(change)
        self._suspect = suspect
        self._wanted: set[str] = set()
        self._recorders = record(self, of_events(self._wanted))
        self.events: Counter[Kind] = Counter(dict.fromkeys(KINDS, 0))

    def fold(self, batch: EventBatch) -> None:
        """Let every detector see a batch."""
        rows = self._suspect.rows(batch)
        self.events[batch.kind] += len(rows)
        ids = batch.columns["event_id"]
        self._wanted.update(ids[row] for row in rows)
        super().fold(batch)

    def verdicts(self) -> list[Verdict]:
        """Return what each rule has to say, those that came closest first."""
        found = [
            Verdict(
                *name,
                recorder.closest,
                recorder.share,
                self._alert_of(*name[1:], recorder.closest),
                self._reason(name[0], recorder),
            )
            for name, recorder in by_rule(self._recorders)
        ]
        spray = SprayTeller
        found.append(Verdict("auth", spray.detector, spray.rule, None, 0.0, None, "it compares tenants"))
        return sorted(found, key=lambda verdict: (-verdict.share, bool(verdict.reason), verdict[:3]))

    def _reason(self, kind: Kind, recorder: Recorder) -> str:
        who, closest = self._suspect.user_id, recorder.closest
        if not self.events[kind]:
            return f"there are no {kind} events of {who}"
        if closest is None and recorder.tested:
            return f"none of the {kind} events of {who} is one that it tests"
        if closest is None:
            return "it tested nobody's events, or cannot say how close they come"
        return "it is switched off" if isinf(closest.threshold) else ""

    def _alert_of(self, detector: str, rule: str, closest: Point | None) -> Alert | None:
        """Return the last alert of a rule about an entity, as far as the suspect's time goes."""
        if closest is None:
            return None
        for alert in reversed(self.alerts()):
            if (
                to_ms(alert.first_time) <= closest.time_ms
                and (alert.status != "resolved" or to_ms(alert.last_time) >= closest.time_ms)
                and raised(alert, detector, rule, closest.key)
            ):
                return alert
        return None
