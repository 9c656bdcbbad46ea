"""Backtest: what the detectors would have said about events, without Kafka or a worker."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import numpy as np

from detectors.address_credit import AddressCredit
from detectors.admission import Admission
from detectors.cross_tenant_spray import CrossTenantSpray
from detectors.registry import Detector, new_detectors
from detectors.snapshot import SnapshotError, dumps, freeze, loads
from schemas.alert import Alert, to_ms
from schemas.batch import FLAGS, EventBatch
from schemas.event import KINDS, Kind
from schemas.tenant import Tenant, unknown_tenant
from streams.geography import Locate, locate_with

WEEK_MS: Final = 7 * 24 * 3_600_000
# A tenant's settings to those that are tried instead.
Change = Callable[[Tenant], Tenant]


class Trial:
    """Every detector with its state, under settings of its own, and what they said.

    Parameters
    ----------
    change
        What is tried instead of each tenant's settings; None: these.
    """

    def __init__(self, change: Change | None = None) -> None:
        self._change = change
        self._changed: dict[str, tuple[Tenant, Tenant]] = {}
        self._last: dict[str, Alert] = {}
        self._due: dict[object, Callable[[], Alert]] = {}
        self.detectors: dict[Kind, list[tuple[Detector, Any]]] = {
            kind: [(detector, detector.new_state()) for detector in of_kind]
            for kind, of_kind in new_detectors().items()
        }

    def fold(self, batch: EventBatch) -> None:
        """Let every detector of the kind see an enriched and admitted batch."""
        if self._change is not None:
            batch = replace(batch, tenants=tuple(map(self._settings, batch.tenants)))
        for detector, state in self.detectors[batch.kind]:
            for alert in detector.fold(batch, state):
                self.take(alert)

    def take(self, alert: Alert) -> None:
        """Keep a revision, in place of the one before it."""
        self._last[alert.alert_id] = alert

    def take_due(self, of: object, make: Callable[[], Alert]) -> None:
        """Keep a revision in place of the one before it, to be made if it turns out to be the last.

        Parameters
        ----------
        of
            What all revisions of its alert have in common.
        make
            Makes its alert.
        """
        self._due[of] = make

    def _settings(self, tenant: Tenant) -> Tenant:
        known = self._changed.get(tenant.tenant_id)
        # Detectors tell versions of a tenant's settings by identity: one object for each.
        if known is None or known[0] is not tenant:
            assert self._change is not None
            self._changed[tenant.tenant_id] = known = tenant, self._change(tenant)
        return known[1]

    def alerts(self, since: datetime | None = None) -> list[Alert]:
        """Return the last revision of each alert, in order of detection.

        Episodes that reach the end stay open, as they would be at a worker that has seen as much.

        Parameters
        ----------
        since
            Only what was detected then or later.
        """
        last = [*self._last.values(), *(make() for make in self._due.values())]
        chosen = [alert for alert in last if since is None or alert.detected_at >= since]
        return sorted(chosen, key=lambda alert: (alert.detected_at, alert.alert_id))


class Backtest:
    """Events through one or more trials at once.

    Parameters
    ----------
    trials
        They see the same events.
    tenants
        Tenant to settings; defaults for those not named.
    locate
        Adds the positions of addresses.

    Attributes
    ----------
    events
        How many were seen, by kind.
    not_evaluated
        How many of them detectors did not look at, by reason (`late`, `duplicate`).
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        tenants: Mapping[str, Tenant] | None = None,
        locate: Locate | None = None,
    ) -> None:
        self.trials = trials
        self._locate = locate or locate_with(None)
        self.events: Counter[Kind] = Counter()
        self.not_evaluated: Counter[str] = Counter()
        self._tenants = dict(tenants or {})
        self._admissions = {kind: Admission() for kind in KINDS}
        # What one address does to several tenants; no tenant's settings have a say in it.
        self._credit = AddressCredit()
        self._spray = CrossTenantSpray()
        self._sprayed = self._spray.new_state()
        self._span_ms: tuple[int, int] | None = None
        self._met: set[str] = set()

    def read(self, batches: Iterable[EventBatch]) -> None:
        """Take up what nobody has looked at yet: events of a file.

        There is no clock: nothing is too far in the future.
        """
        for batch in batches:
            settings = tuple(map(self._settings, batch.tenant.values))
            self.fold(self._admissions[batch.kind].admit(replace(batch, tenants=settings)))

    def fold(self, batch: EventBatch) -> None:
        """Let the trials see an enriched and admitted batch."""
        self.events[batch.kind] += len(batch)
        if batch.flags is not None:
            for name, bit in FLAGS.items():
                if count := int(np.count_nonzero(batch.flags & bit)):
                    self.not_evaluated[name] += count
        if len(time_ms := batch.time_ms[batch.mask()]):
            first_ms, last_ms = int(time_ms.min()), int(time_ms.max())
            known = self._span_ms or (first_ms, last_ms)
            self._span_ms = min(first_ms, known[0]), max(last_ms, known[1])
            self._met.update(batch.tenant.values)
        batch = self._locate(batch)
        for trial in self.trials:
            trial.fold(batch)
        if batch.kind == "auth":
            self._compare_tenants(batch)

    def _compare_tenants(self, batch: EventBatch) -> None:
        unexcused = batch.select(self._credit.unexcused(batch))
        for revision in self._spray.revisions(unexcused, self._sprayed):
            for trial in self.trials:
                trial.take_due(revision.of, partial(self._spray.alert, revision))

    def tenant_weeks(self, since: datetime | None = None) -> float:
        """Return how many weeks there were events, by event time, times how many tenants had any.

        Parameters
        ----------
        since
            Only the time from then on.
        """
        if self._span_ms is None:
            return 0.0
        first_ms, last_ms = self._span_ms
        start_ms = first_ms if since is None else max(first_ms, to_ms(since))
        return len(self._met) * max(last_ms - start_ms, 0) / WEEK_MS

    def _settings(self, tenant_id: str) -> Tenant:
        known = self._tenants.get(tenant_id)
        if known is None:
            known = self._tenants[tenant_id] = unknown_tenant(tenant_id)
        return known

    def parts(self) -> dict[str, bytes]:
        """Return what is remembered of the events so far, by the first trial."""
        named = {f"{kind}/admission": dumps(freeze(self._admissions[kind])) for kind in KINDS}
        named |= {
            "auth/address_credit": dumps(freeze(self._credit)),
            "auth/cross_tenant_spray": dumps(freeze(self._sprayed)),
        }
        for kind, detectors in self.trials[0].detectors.items():
            named |= {f"{kind}/{detector.name}": dumps(freeze(state)) for detector, state in detectors}
        return named

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Go on from what `parts` returned, in every trial.

        Raises
        ------
        SnapshotError
            If a part is missing, damaged, or of another version of the program.
        """

        def part(name: str) -> bytes:
            if name not in parts:
                raise SnapshotError(f"{name}: there is nothing of it")
            return parts[name]

        self._admissions = {kind: loads(Admission, part(f"{kind}/admission")) for kind in KINDS}
        self._credit = loads(AddressCredit, part("auth/address_credit"))
        self._sprayed = loads(self._spray.new_state, part("auth/cross_tenant_spray"))
        for trial in self.trials:
            trial.detectors = {
                kind: [(d, loads(d.new_state, part(f"{kind}/{d.name}"))) for d, _ in detectors]
                for kind, detectors in trial.detectors.items()
            }
