"""Visits of an address to tenants: what it tried at each of them, and which visits were close together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from detectors.episodes import cuts
from detectors.tally import MAX_VALUES
from schemas.alert import MAX_EVIDENCE_IDS


class Cut(NamedTuple):
    """A visit as it was when a revision of its alert was due.

    Parameters
    ----------
    failures
        How many.
    last_ms
        Time of the latest.
    users
        Different users, `MAX_VALUES` at most.
    """

    failures: int
    last_ms: int
    users: int


@dataclass(slots=True)
class Visit:
    """Failures of one tenant's users from one address, less than the window apart.

    All of it comes from the tenant's own events in their order: how those of different tenants came between
    each other changes nothing here.

    Parameters
    ----------
    tenant_id
        Whose visit.
    first_ms, last_ms
        Event times; they never run backwards.
    epoch
        When the latest failure arrived.
    count, users, event_ids
        Failures; different users and the first ids among them.
    cuts
        At each failure at which a revision is due: the 1st, 2nd, 4th, 8th, …
    shared
        Whether enough tenants were visited close by.
    told
        Revisions that were published.
    resolved
        Whether it was said that it is over.
    """

    tenant_id: str
    first_ms: int
    last_ms: int
    epoch: int
    count: int = 0
    users: list[str] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    shared: bool = False
    told: int = 0
    resolved: bool = False

    def extend(self, times: Sequence[int], event_ids: Sequence[str], users: Sequence[str | None]) -> None:
        """Add failures, in order.

        >>> visit = Visit("tenant-a", 0, 0, 0)
        >>> visit.extend([0, 1000, 2000], ["1", "2", "3"], ["ana", "ben", None])
        >>> visit.cuts
        [Cut(failures=1, last_ms=0, users=1), Cut(failures=2, last_ms=1000, users=2)]
        """
        at = 0
        for stop in cuts(self.count, len(times)):
            self._add(times[at:stop], event_ids[at:stop], users[at:stop])
            self.cuts.append(Cut(self.count, self.last_ms, len(self.users)))
            at = stop
        if at < len(times):
            self._add(times[at:], event_ids[at:], users[at:])

    def _add(self, times: Sequence[int], event_ids: Sequence[str], users: Sequence[str | None]) -> None:
        self.count += len(times)
        self.last_ms = max(self.last_ms, max(times))
        self.event_ids.extend(event_ids[: MAX_EVIDENCE_IDS - len(self.event_ids)])
        if len(self.users) < MAX_VALUES:
            known = set(self.users)
            fresh = [user for user in dict.fromkeys(users) if user is not None and user not in known]
            self.users.extend(fresh[: MAX_VALUES - len(self.users)])


def share(visits: Sequence[Visit], tenants: int, window_ms: int) -> None:
    """Mark visits to so many different tenants that a window holds failures of them all.

    Failures of a visit are less than a window apart, so a window holds one exactly if it meets the time from
    the visit's first to its last; and visits that meet by pairs have a window in common.

    Parameters
    ----------
    visits
        Of one address.

    >>> visits = [Visit(f"tenant-{at}", at, at, 0) for at in (0, 5, 9, 14)]
    >>> share(visits, 3, 10)
    >>> [visit.shared for visit in visits]
    [True, True, True, True]
    >>> share(apart := [Visit(f"tenant-{at}", at, at, 0) for at in (0, 6, 12, 18)], 3, 10)
    >>> any(visit.shared for visit in apart)
    False
    """
    if len(visits) < tenants:
        return
    for visit in visits:
        if not visit.shared:
            for near in _close(visit, visits, window_ms):
                if len({each.tenant_id for each in near}) >= tenants:
                    for each in near:
                        each.shared = True
                    break


def _close(visit: Visit, visits: Sequence[Visit], window_ms: int) -> Iterator[list[Visit]]:
    """Yield the groups of visits, this one among them, that have a window in common."""
    near = [
        other
        for other in visits
        if other.first_ms < visit.last_ms + window_ms and visit.first_ms < other.last_ms + window_ms
    ]
    for latest in near:
        if latest.first_ms >= visit.first_ms:
            yield [each for each in near if each.first_ms <= latest.first_ms < each.last_ms + window_ms]
