"""Episodes: from the event that crosses a threshold to the quiet after the last one; one alert each.

An episode is a function of its key's own events in order, so it cannot depend on how the stream was cut
into batches. It is over once `quiet_ms` pass without an event of its own: the next one starts another.
That it is over is told as soon as the tenant's clock shows that no event can come that would have
belonged to it (`detectors.clock.Clock.settled_ms`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import convert

from detectors.closeness import Watch
from detectors.episode import Episode, Teller, alert_of
from detectors.keys import Key
from detectors.saved import Saved
from schemas.alert import Alert

FOREVER_MS: Final = 1 << 62


class Rows(Protocol):
    """Rows of one rule in a batch, sorted by key, and what the rule makes of them."""

    @property
    def times(self) -> Sequence[int]:
        """``(n,)`` event times, never running backwards within a key."""

    @property
    def event_ids(self) -> Sequence[str]:
        """``(n,)`` ids."""

    def begin(self, key: Key, at: int) -> Episode:
        """Return the episode that the row at position `at` opens, the row and what led up to it counted."""

    def gather(self, episode: Episode, start: int, stop: int) -> None:
        """Add rows to the episode's facts."""

    def measure(self, episode: Episode, at: int) -> None:
        """Take score and threshold from the row at which a revision is cut."""


def cuts(count: int, more: int) -> list[int]:
    """Return how many of `more` events lie up to each count of 1, 2, 4, 8, … beyond `count`.

    >>> cuts(6, 12)
    [2, 10]
    """
    found: list[int] = []
    power = 1 << count.bit_length()
    while power <= count + more:
        found.append(power - count)
        power *= 2
    return found


@dataclass
class Episodes:
    """The open episodes of one rule.

    Parameters
    ----------
    open
        Tenant to key to episode.
    """

    open: dict[str, dict[Key, Episode]] = field(default_factory=dict)
    # No episode of the tenant is over before this; spares looking at each of them for every batch.
    _due_ms: dict[str, int] = field(default_factory=dict)

    def find(self, key: Key) -> Episode | None:
        """Return the open episode of a key."""
        return self.open.get(key[0], {}).get(key)

    def start(self, episode: Episode) -> None:
        """Keep an episode until it is over."""
        tenant_id = episode.key[0]
        self.open.setdefault(tenant_id, {})[episode.key] = episode
        self._due_ms[tenant_id] = min(self._due_ms.get(tenant_id, FOREVER_MS), episode.due_ms)

    def end(self, episode: Episode) -> None:
        """Keep an episode no longer."""
        tenant_id = episode.key[0]
        mine = self.open[tenant_id]
        del mine[episode.key]
        if not mine:
            del self.open[tenant_id], self._due_ms[tenant_id]

    def type_facts(self, teller: Teller) -> None:
        """Make of facts that were read as plain data what the teller wants."""
        for mine in self.open.values():
            for episode in mine.values():
                episode.facts = convert(episode.facts, teller.facts)

    def end_due(self, tenant_id: str, settled_ms: int) -> list[Episode]:
        """Return the tenant's episodes that are over at `settled_ms`, and keep them no longer."""
        if self._due_ms.get(tenant_id, FOREVER_MS) > settled_ms:
            return []
        mine = self.open[tenant_id]
        over = [episode for episode in mine.values() if episode.due_ms <= settled_ms]
        for episode in over:
            self.end(episode)
        if mine:
            self._due_ms[tenant_id] = min(episode.due_ms for episode in mine.values())
        return over

    def follow(
        self,
        teller: Teller,
        rows: Rows,
        key: Key,
        start: int,
        stop: int,
        crossings: Sequence[int],
        urgent: Sequence[int] = (),
    ) -> tuple[list[Alert], int]:
        """Follow one key until its episode is over or its rows are used up.

        Parameters
        ----------
        teller, rows
            The rule, and its rows.
        start, stop
            The key's rows.
        crossings
            Positions, ascending, of rows that open an episode where none is open.
        urgent
            Positions, ascending, of rows the first of which in an episode is worth a revision at once.

        Returns
        -------
        alerts, position
            Revisions, and the row at which the episode had ended; `stop`: it has not.
        """
        alerts: list[Alert] = []
        episode = self.find(key)
        at = start
        if episode is None:
            crossing = bisect_left(crossings, start)
            if crossing == len(crossings) or crossings[crossing] >= stop:
                return alerts, stop
            at = crossings[crossing]
            episode = rows.begin(key, at)
            rows.measure(episode, at)
            nearest = bisect_left(urgent, at)
            episode.urgent = nearest < len(urgent) and urgent[nearest] == at
            self.start(episode)
            alerts.append(alert_of(teller, episode, "open"))
            at += 1
        end = _end_of(episode, rows.times, at, stop)
        wanted = {at + nth - 1 for nth in cuts(episode.count, end - at)}
        nearest = bisect_left(urgent, at)
        hurry = -1
        if not episode.urgent and nearest < len(urgent) and urgent[nearest] < end:
            hurry = urgent[nearest]
            wanted.add(hurry)
        for cut in sorted(wanted):
            rows.gather(episode, at, cut + 1)
            episode.extend(rows.event_ids[at : cut + 1], rows.times[cut])
            rows.measure(episode, cut)
            episode.urgent |= cut == hurry
            alerts.append(alert_of(teller, episode, "updated"))
            at = cut + 1
        if at < end:
            rows.gather(episode, at, end)
            episode.extend(rows.event_ids[at:end], rows.times[end - 1])
        if end < stop:
            self.end(episode)
            alerts.append(alert_of(teller, episode, "resolved"))
        return alerts, end


def _end_of(episode: Episode, times: Sequence[int], start: int, stop: int) -> int:
    """Return the first row that comes too late to belong to the episode."""
    last_ms = episode.last_ms
    # The usual case by far, and the only one that an attack of many events pays for.
    if start >= stop or times[stop - 1] - last_ms < episode.quiet_ms:
        return stop
    for at in range(start, stop):
        if times[at] - last_ms >= episode.quiet_ms:
            return at
        last_ms = times[at]
    return stop


class EpisodeRule:
    """A rule that remembers nothing but its open episodes.

    Parameters
    ----------
    teller
        Names them.
    """

    saved = Saved(frozenset({"teller", "watch"}), restored=lambda rule: rule.episodes.type_facts(rule.teller))

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.watch: Watch | None = None
        self.episodes = Episodes()

    def settle(self, tenant_id: str, settled_ms: int) -> list[Alert]:
        """Return the last revision of the tenant's episodes that are over."""
        over = self.episodes.end_due(tenant_id, settled_ms)
        return [alert_of(self.teller, episode, "resolved") for episode in over]
