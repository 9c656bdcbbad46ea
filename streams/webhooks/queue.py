"""What waits to be sent, in memory: who may be sent to now, and what is next. No I/O, no clock."""

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

from store.webhook_rows import Delivery
from streams.webhooks.message import UPDATED

_Lane = tuple[str, str]  # endpoint_id, alert_id


class PendingQueue:
    """Deliveries in lanes, one for each endpoint and alert.

    Of a lane only the lowest revision is sent, so an alert's revisions arrive in order: the next one
    waits until the one before it is delivered or given up. One exception keeps a receiver that was down
    from reading history first: an ``alert.updated`` that has failed is superseded once a later revision
    of its alert waits, for that one says all that it said.

    Parameters
    ----------
    per_endpoint
        How many attempts an endpoint may have in flight.
    """

    def __init__(self, per_endpoint: int) -> None:
        self._per_endpoint = per_endpoint
        self._waiting: dict[str, Delivery] = {}
        self._lanes: dict[_Lane, list[tuple[int, str]]] = {}
        # The lanes of an endpoint by when their heads are due; entries are checked when they come up.
        self._due: dict[str, list[tuple[datetime, _Lane]]] = {}
        self._busy: dict[_Lane, Delivery] = {}
        # Attempts that have no answer yet, by endpoint; and the lanes whose answer is still to be stored.
        self._in_flight: Counter[str] = Counter()
        self._answered: set[_Lane] = set()
        self._paused_until: dict[str, datetime] = {}
        self._superseded: list[Delivery] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many attempts have no answer yet."""
        return self._in_flight.total()

    def ids(self) -> set[str]:
        """Return the ids of all that waits or is in flight."""
        return set(self._waiting)

    def put(self, delivery: Delivery) -> None:
        """Add a delivery, or replace an older version of it."""
        known = self._waiting.get(delivery.delivery_id)
        if known is not None and known.version >= delivery.version:
            return
        self._waiting[delivery.delivery_id] = delivery
        lane = delivery.endpoint_id, delivery.alert_id
        if known is None:
            insort(self._lanes.setdefault(lane, []), (delivery.revision, delivery.delivery_id))
        self._offer(lane)

    def discard(self, delivery_ids: Iterable[str]) -> None:
        """Take deliveries out; what is in flight is left to finish."""
        for delivery_id in delivery_ids:
            delivery = self._waiting.get(delivery_id)
            if delivery is None:
                continue
            lane = delivery.endpoint_id, delivery.alert_id
            if lane in self._busy and self._busy[lane].delivery_id == delivery_id:
                continue
            self._remove(delivery)
            self._offer(lane)

    def keep(self, partitions: Collection[int]) -> None:
        """Take everything of other partitions out, except what is in flight."""
        self.discard([d.delivery_id for d in self._waiting.values() if d.kafka_partition not in partitions])

    def pause(self, endpoint_id: str, until: datetime) -> None:
        """Leave an endpoint alone until then, or until a pause that ends later."""
        self._paused_until[endpoint_id] = max(until, self._paused_until.get(endpoint_id, until))

    def take(self, now: datetime, room: int) -> list[Delivery]:
        """Return up to `room` deliveries to send now; `done` is due for each.

        Endpoints are served in the order of what is due longest, none beyond its share.
        """
        whens = [(when, each) for each in [*self._due] if (when := self._when(each)) is not None]
        taken: list[Delivery] = []
        for _, endpoint_id in sorted(whens):
            while len(taken) < room and (when := self._when(endpoint_id)) is not None and when <= now:
                _, lane = heapq.heappop(self._due[endpoint_id])
                delivery = self._head(lane)
                self._busy[lane] = delivery
                self._in_flight[endpoint_id] += 1
                taken.append(delivery)
        return taken

    def answered(self, taken: Delivery) -> None:
        """Let the endpoint have another attempt: this one has its answer, and only that is to be stored."""
        self._in_flight -= Counter([taken.endpoint_id])
        self._answered.add((taken.endpoint_id, taken.alert_id))

    def done(self, taken: Delivery, after: Delivery | None) -> None:
        """End what `take` began.

        Parameters
        ----------
        after
            The delivery as it waits now; None if it does not wait any more.
        """
        lane = taken.endpoint_id, taken.alert_id
        if lane not in self._answered:
            self.answered(taken)
        self._answered.remove(lane)
        del self._busy[lane]
        if after is not None:
            self.put(after)
        elif self._waiting[taken.delivery_id].version == taken.version:
            self._remove(taken)
        self._offer(lane)

    def next_due(self) -> datetime | None:
        """Return when `take` will have something, if nothing changes; None if never."""
        whens = (self._when(endpoint_id) for endpoint_id in [*self._due])
        return min((when for when in whens if when is not None), default=None)

    def take_superseded(self) -> list[Delivery]:
        """Return, once, what was taken out because a later revision replaces it."""
        superseded, self._superseded = self._superseded, []
        return superseded

    def _head(self, lane: _Lane) -> Delivery:
        return self._waiting[self._lanes[lane][0][1]]

    def _remove(self, delivery: Delivery) -> None:
        lane = delivery.endpoint_id, delivery.alert_id
        del self._waiting[delivery.delivery_id]
        self._lanes[lane].remove((delivery.revision, delivery.delivery_id))
        if not self._lanes[lane]:
            del self._lanes[lane]

    def _offer(self, lane: _Lane) -> None:
        """Put a lane's head among what is due, unless the lane is empty or has one in flight."""
        if lane in self._busy or lane not in self._lanes:
            return
        head = self._head(lane)
        while len(self._lanes[lane]) > 1 and head.attempts > 0 and head.event_type == UPDATED:
            self._remove(head)
            self._superseded.append(head)
            head = self._head(lane)
        heapq.heappush(self._due.setdefault(head.endpoint_id, []), (head.next_attempt_at, lane))

    def _when(self, endpoint_id: str) -> datetime | None:
        """Return when an endpoint's next delivery may go, dropping entries that no longer hold."""
        due = self._due.get(endpoint_id, [])
        while due:
            when, lane = due[0]
            if lane in self._lanes and lane not in self._busy and self._head(lane).next_attempt_at == when:
                if self._in_flight[endpoint_id] >= self._per_endpoint:
                    return None
                return max(when, self._paused_until.get(endpoint_id, when))
            heapq.heappop(due)
        self._due.pop(endpoint_id, None)
        return None
