"""Episodes: from the event that crosses a threshold to the quiet after the last one; one alert each.

An episode is a function of its key's own events in order, so it cannot depend on how the stream was cut
into batches. It is over once `quiet_ms` pass without an event of its own: the next one starts another.
That it is over is told as soon as the tenant's clock shows that no event can come that would have
belonged to it (`detectors.clock.Clock.settled_ms`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import convert

from detectors.clock import FOREVER_MS
from detectors.closeness import Watch
from detectors.episode import Episode, Teller, alert_of
from detectors.keys import Key
from detectors.saved import Saved
from schemas.alert import Alert
from schemas.batch import Bools, Int64s


class Rows(Protocol):
    """Rows of one rule in a batch, sorted by key, and what the rule makes of them."""

    @property
    def times(self) -> Sequence[int]:
        """``(n,)`` event times, never running backwards within a key."""

    @property
    def event_ids(self) -> Sequence[str]:
        """``(n,)`` ids."""

    @property
    def grades(self) -> Int64s | Bools | None:
        """``(n,)`` how grave each row is by itself; None: none is graver than others."""

    def begin(self, key: Key, at: int) -> Episode:
        """Return the episode that the row at position `at` opens, the row and what led up to it counted."""

    def gather(self, episode: Episode, start: int, stop: int) -> None:
        """Add rows to the episode's facts."""

    def measure(self, episode: Episode, start: int, stop: int) -> None:
        """Take grade, score and threshold from the highest of rows, if it is higher than any before.

        Asked once for all rows between two revisions, or between a revision and the end of the batch: every
        row is measured by the time the episode is over, and how the stream was cut does not matter.
        """


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


def rises(grades: Int64s | Bools | None, grade: int, start: int, stop: int) -> list[int]:
    """Return the rows, from `start` to `stop`, that are graver than `grade` and than all rows before them.

    >>> import numpy as np
    >>> rises(np.array([0, 1, 1, 0, 2, 1]), 0, 0, 6)
    [1, 4]
    """
    found: list[int] = []
    while grades is not None and start < stop and (part := grades[start:stop]).max() > grade:
        start += int((part > grade).argmax())
        found.append(start)
        grade = int(grades[start])
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
            rows.measure(episode, at, at + 1)
            self.start(episode)
            alerts.append(alert_of(teller, episode, "open"))
            at += 1
        end = _end_of(episode, rows.times, at, stop)
        wanted = {at + nth - 1 for nth in cuts(episode.count, end - at)}
        wanted.update(rises(rows.grades, episode.grade, at, end))
        for cut in sorted(wanted):
            _add(episode, rows, at, cut + 1)
            alerts.append(alert_of(teller, episode, "updated"))
            at = cut + 1
        if at < end:
            _add(episode, rows, at, end)
        if end < stop:
            self.end(episode)
            alerts.append(alert_of(teller, episode, "resolved"))
        return alerts, end


def _add(episode: Episode, rows: Rows, start: int, stop: int) -> None:
    rows.gather(episode, start, stop)
    episode.extend(rows.event_ids[start:stop], rows.times[stop - 1])
    rows.measure(episode, start, stop)


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
