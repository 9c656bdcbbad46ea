"""Spraying across tenants: one address that fails at several tenants, a little at each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from detectors.clock import FOREVER_MS, HOUR_MS, LATE_MS
from detectors.columns import Hashed, Tenants, named, taken, values_at
from detectors.cross_tenant_spray_state import CrossTenantSprayState
from detectors.episode import Episode, Status, Story, alert_of, in_order
from detectors.keys import fingerprints
from detectors.segments import by_key, starts_of
from detectors.tally import MAX_VALUES
from detectors.visits import Cut, Visit, share
from detectors.wording import clock_text, duration_text, plural
from schemas.alert import Alert
from schemas.batch import EventBatch, Int64s
from schemas.event import Kind

# An address must fail at so many tenants within so long: two may share an office, or an administrator. No
# tenant has settings of its own for it: they would change what others are told.
TENANTS: Final = 3
WINDOW_MS: Final = HOUR_MS
# Visits are remembered until this many hours after the one in which their latest failure arrived, whatever
# its own time: so long one tenant's partition may lag behind another's, on top of the window, before what
# belongs together is not found to.
EPOCH_MS: Final = HOUR_MS
KEPT_EPOCHS: Final = 2


class SprayTeller:
    """Tells a tenant of its own part, and that it was not the only one: not who the others were."""

    detector = "failed_login"
    rule = "spray_across_tenants"
    facts = Cut

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about a visit."""
        cut: Cut = episode.facts
        users = f"at least {cut.users}" if cut.users == MAX_VALUES else f"{cut.users}"
        tries = plural(cut.failures, "failed login")
        others = f"{TENANTS - 1} or more"
        return Story(
            "cross_tenant_spray",
            "high",
            f"{tries} from {episode.key[2]} here, of {users} user{'' if users == '1' else 's'}, and more at "
            f"{others} other tenants within {duration_text(WINDOW_MS)}; last at {clock_text(cut.last_ms)}",
            {"failures": cut.failures, "users": cut.users, "other_tenants": others},
            ("T1110.003",),
            "Block the address: whoever tries several tenants at once is no user who mistyped. Look for a "
            "success from it among the users it tried; reset those passwords and require a second factor.",
        )


class Revision(NamedTuple):
    """A revision that is due; `CrossTenantSpray.alert` makes its alert.

    Nothing here changes once it is due, so its alert may be made whenever it is wanted: a backtest keeps only
    the last one of a visit.

    Parameters
    ----------
    address, visit
        Whose.
    cut, told, status
        The visit as it was then, how many revisions there were before, and what is said.
    """

    address: str
    visit: Visit
    cut: Cut
    told: int
    status: Status

    @property
    def of(self) -> tuple[str, str, int]:
        """What all revisions of an alert have in common."""
        return self.visit.tenant_id, self.address, self.visit.first_ms


class CrossTenantSpray:
    """Addresses that fail at several tenants within an hour; each of these gets an alert about its own part.

    An alert's content comes from the tenant's own failures alone: its times say nothing about the others,
    and the order in which failures of different tenants arrive changes nothing. Revisions are due at the
    1st, 2nd, 4th, 8th, … failure of a visit, as always, and told once it is known to be one of several.

    >>> from schemas.parse import parse
    >>> event = (
    ...     '{"kind":"auth","event_id":"%s","tenant_id":"tenant-%s","time":"2026-01-01T00:00:00Z","service":'
    ...     '"login","user_id":"ana","source_ip":"192.0.2.7","action":"login","outcome":"failure"}'
    ... )
    >>> batch = parse("auth", [(event % (name, name)).encode() for name in "abc"]).batch
    >>> detector = CrossTenantSpray()
    >>> alerts = detector.fold(batch, detector.new_state())
    >>> sorted(alert.tenant_id for alert in alerts)
    ['tenant-a', 'tenant-b', 'tenant-c']
    >>> alerts[0].summary[:69]
    '1 failed login from 192.0.2.7 here, of 1 user, and more at 2 or more '
    """

    name = "failed_login"
    kind: Kind = "auth"

    def new_state(self) -> CrossTenantSprayState:
        """Return the state of a partition of which nothing was seen."""
        return CrossTenantSprayState()

    def fold(self, batch: EventBatch, state: CrossTenantSprayState) -> list[Alert]:
        """Return the alerts that failures give rise to; as for `revisions`."""
        return in_order(list(map(self.alert, self.revisions(batch, state))))

    def revisions(self, batch: EventBatch, state: CrossTenantSprayState) -> list[Revision]:
        """Return the revisions that failures give rise to, those of an alert in their order.

        Parameters
        ----------
        batch
            Failed logins of any tenants, each tenant's in its order; the choice of
            `AddressCredit.unexcused`. They arrived at its `ingest_time_ms`; where there is none, each at the
            time that the latest event so far had.
        state
            Changed.
        """
        rows = np.flatnonzero(batch.mask() & named(batch.columns["source_ip"]))
        due: list[Revision] = []
        if not len(rows):
            return due
        time_ms = state.clock.read(batch, rows)
        epochs = self._arrive(batch, time_ms, state) // EPOCH_MS
        touched = set(batch.tenant.values)
        for start, stop in pairwise([*starts_of(epochs).tolist(), len(rows)]):
            part, epoch = slice(start, stop), int(epochs[start])
            due += self._forget(state, epoch)
            for address in self._grow(batch, rows[part], time_ms[part], state, epoch):
                visits = state.visits[address]
                share(visits, TENANTS, WINDOW_MS)
                for visit in visits:
                    if visit.shared and visit.told < len(visit.cuts):
                        due += self._told(address, visit, state)
                        touched.add(visit.tenant_id)
        for tenant_id in state.open.keys() & touched:
            due += self._settle(state, tenant_id, state.clock.settled_ms(tenant_id))
        return due

    def advance(self, state: CrossTenantSprayState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of what is over at the times that tenants must have reached."""
        return in_order(
            [
                self.alert(revision)
                for tenant_id in state.open.keys() & until_ms.keys()
                for revision in self._settle(state, tenant_id, until_ms[tenant_id] - LATE_MS)
            ]
        )

    def _arrive(self, batch: EventBatch, time_ms: Int64s, state: CrossTenantSprayState) -> Int64s:
        """Return ``(n,)`` when each failure arrived; these times never run backwards."""
        at_ms = time_ms if batch.ingest_time_ms is None else np.full(len(time_ms), batch.ingest_time_ms)
        arrived_ms = np.maximum(np.maximum.accumulate(at_ms), state.arrived_ms)
        state.arrived_ms = int(arrived_ms[-1])
        return arrived_ms

    def _grow(
        self, batch: EventBatch, rows: Int64s, time_ms: Int64s, state: CrossTenantSprayState, epoch: int
    ) -> Iterable[str]:
        """Take up failures; return their addresses."""
        addresses = Hashed(taken(batch, "source_ip", rows))
        prints = fingerprints((addresses, Tenants(batch, rows)), np.arange(len(rows)))
        order = by_key(prints)
        starts = starts_of(prints[order])
        firsts, rows = order[starts], rows[order]
        # All at once: an attack's addresses are many, with a failure or two each.
        times: list[int] = time_ms[order].tolist()
        ids, users = (values_at(batch.columns[name], rows) for name in ("event_id", "user_id"))
        tenants = [batch.tenant.values[code] for code in batch.tenant.codes[rows[starts]].tolist()]
        met = values_at(addresses.values, firsts)
        bounds = pairwise([*starts.tolist(), len(order)])
        for address, tenant_id, (start, stop) in zip(met, tenants, bounds, strict=True):
            mine = slice(start, stop)
            visits = state.visits.setdefault(address, [])
            self._follow(visits, tenant_id, epoch, times[mine], ids[mine], users[mine])
        return dict.fromkeys(met)

    def _follow(
        self,
        visits: list[Visit],
        tenant_id: str,
        epoch: int,
        times: Sequence[int],
        event_ids: Sequence[str],
        users: Sequence[str | None],
    ) -> None:
        """Add a tenant's failures to its latest visit, or to those that begin with one of them."""
        visit = next((v for v in reversed(visits) if v.tenant_id == tenant_id), None)
        for at, stop in self._runs(times, visit):
            if at or visit is None or visit.resolved or times[0] - visit.last_ms >= WINDOW_MS:
                visit = Visit(tenant_id, times[at], times[at], epoch)
                visits.append(visit)
            visit.epoch = epoch
            visit.extend(times[at:stop], event_ids[at:stop], users[at:stop])

    def _runs(self, times: Sequence[int], visit: Visit | None) -> Iterator[tuple[int, int]]:
        """Cut where a window passes without a failure."""
        last_ms = times[0] if visit is None else max(visit.last_ms, times[0])
        start = 0
        for at, time_ms in enumerate(times):
            if time_ms - last_ms >= WINDOW_MS:
                yield start, at
                start = at
            last_ms = max(last_ms, time_ms)
        yield start, len(times)

    def _told(self, address: str, visit: Visit, state: CrossTenantSprayState) -> list[Revision]:
        """Return the revisions of a visit that are due and were not told."""
        due = range(visit.told, len(visit.cuts))
        visit.told = len(visit.cuts)
        tenant_id = visit.tenant_id
        state.open.setdefault(tenant_id, set()).add(address)
        over_ms = visit.last_ms + WINDOW_MS
        state.due_ms[tenant_id] = min(state.due_ms.get(tenant_id, FOREVER_MS), over_ms)
        return [Revision(address, visit, visit.cuts[i], i, "updated" if i else "open") for i in due]

    def _resolved(self, address: str, visit: Visit) -> Revision:
        visit.resolved = True
        last = Cut(visit.count, visit.last_ms, len(visit.users))
        return Revision(address, visit, last, len(visit.cuts), "resolved")

    def alert(self, revision: Revision) -> Alert:
        """Return the alert of a revision that is due."""
        address, visit, cut, told, status = revision
        episode = Episode(
            (visit.tenant_id, "source_ip", address),
            visit.first_ms,
            cut.last_ms,
            visit.first_ms,
            WINDOW_MS,
            cut,
            count=cut.failures,
            score=TENANTS,
            threshold=TENANTS - 1,
            revision=told,
            event_ids=visit.event_ids[: cut.failures],
        )
        return alert_of(SprayTeller(), episode, status)

    def _settle(self, state: CrossTenantSprayState, tenant_id: str, settled_ms: int) -> list[Revision]:
        """Return the last revisions of a tenant's visits that are over."""
        if state.due_ms[tenant_id] > settled_ms:
            return []
        due: list[Revision] = []
        due_ms = FOREVER_MS
        for address in list(state.open[tenant_id]):
            for visit in state.unresolved(tenant_id, address):
                over_ms = visit.last_ms + WINDOW_MS
                if over_ms <= settled_ms:
                    due.append(self._resolved(address, visit))
                else:
                    due_ms = min(due_ms, over_ms)
            state.close(tenant_id, address)
        if tenant_id in state.open:
            state.due_ms[tenant_id] = due_ms
        return due

    def _forget(self, state: CrossTenantSprayState, epoch: int) -> list[Revision]:
        """Drop visits of which nothing has arrived for hours, and tell the end of those that were told."""
        if epoch == state.epoch:
            return []
        state.epoch = epoch
        due: list[Revision] = []
        for address in list(state.visits):
            gone = [visit for visit in state.visits[address] if visit.epoch < epoch - KEPT_EPOCHS]
            if gone:
                due += [self._resolved(address, v) for v in gone if v.shared and not v.resolved]
                state.visits[address] = [v for v in state.visits[address] if v.epoch >= epoch - KEPT_EPOCHS]
                for tenant_id in {visit.tenant_id for visit in gone if visit.shared}:
                    state.close(tenant_id, address)
                if not state.visits[address]:
                    del state.visits[address]
        return due
