"""Volume: somebody takes far more than they, their colleagues, or their colleagues today do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from detectors.clock import DAY_MS
from detectors.columns import among, numbers, picked
from detectors.crossings import Crossings
from detectors.episode import Episode, Story
from detectors.episodes import EpisodeRule
from detectors.people import Hour, People, Present
from detectors.segments import by_key, running_count, starts_of
from detectors.volume_habits import MAX_COUNT, MEASURES, WINDOW_HOURS, M, VolumeHabits, surprise
from detectors.wording import clock_text
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Floats, Int64s

# Somebody is busy from this share of their limit on.
BUSY_SHARE: Final = 0.5
# A thousand times rarer than the budget asks for.
HIGH_MARGIN: Final = 3.0
VERBS: Final = {"reads": "read {} times", "exports": "exported {} times", "records": "took {} records"}
SPANS: Final = {1: "hour", 24: "day"}


class VolumeRule(NamedTuple):
    """What holds for a tenant."""

    false_alarms_per_week: float
    tenant_habit_min: int
    days_min: int
    quiet_ms: int


class _Taken(NamedTuple):
    measure: str
    window_h: int
    amount: int
    busy_amount: float
    people: int


class _Teller:
    detector = "access_anomaly"
    rule = "volume"
    facts = _Taken

    def tell(self, episode: Episode) -> Story:
        taken: _Taken = episode.facts
        span = SPANS[taken.window_h]
        did = VERBS[taken.measure].format(f"{taken.amount:,}")
        others = taken.people - 1
        crowd = f" ({others} more of the tenant are busier than usual)" if others else ""
        return Story(
            "volume",
            "high" if episode.grade else "medium",
            f"{episode.key[2]} {did} this {span}, where a busy {span} of theirs has "
            f"{taken.busy_amount:,.0f}{crowd}; last at {clock_text(episode.last_ms)}",
            {
                "measure": taken.measure,
                "window_s": 3600 * taken.window_h,
                "amount": taken.amount,
                "busy_amount": round(taken.busy_amount, 1),
                "others_busy": others,
            },
            ("T1213", "T1567"),
            "Ask the user what the data is for. If nobody can say, suspend the account, revoke its sessions "
            "and list what was taken: the accesses of this user since the first time above.",
        )


def amounts_of(batch: EventBatch, rows: Int64s) -> Int64s:
    """Return ``(3, n)`` how much each row takes, of `MEASURES`.

    Parameters
    ----------
    batch, rows
        Accesses, and ``(n,)`` positions.
    """
    action, succeeded = batch.columns["action"], ~batch.failed[rows]
    reads = among(action, {"read"})[rows] & succeeded
    exports = among(action, {"export"})[rows] & succeeded
    records = numbers(batch.columns["record_count"])[rows] * (reads | exports)
    amounts = np.empty((M, len(rows)), np.int64)
    amounts[:] = reads, exports, np.minimum(records, MAX_COUNT)
    return amounts


@dataclass
class VolumeState:
    """What is remembered of who takes how much.

    Parameters
    ----------
    habits
        By user.
    takers
        Open episodes.
    """

    habits: VolumeHabits = field(default_factory=VolumeHabits)
    takers: EpisodeRule = field(default_factory=lambda: EpisodeRule(_Teller()))


class VolumeFold:
    """Counts what the rows of one batch take.

    A user alarms with more than the limit of `VolumeHabits`, times the number of the tenant's users who are
    over half of theirs: at the end of a month, or where a release made clients ask twice, all are busy at
    once, and nobody stands out.

    Parameters
    ----------
    batch, people
        Not changed.
    state
        Changed.
    present, rule, rules
        The rows, and ``(n,)`` what holds for them.
    """

    def __init__(
        self,
        batch: EventBatch,
        state: VolumeState,
        people: People,
        present: Present,
        rule: Int64s,
        rules: Sequence[VolumeRule],
    ) -> None:
        self.batch, self.state, self.people, self.present = batch, state, people, present
        self._rule, self._rules = rule, rules
        self._amounts = amounts_of(batch, present.rows)
        self._takes: Bools = self._amounts.max(axis=0) > 0
        self._budget = np.array([r.false_alarms_per_week for r in rules])
        self._least = np.array([(r.tenant_habit_min, r.days_min * DAY_MS) for r in rules])

    def fold(self, hour: Hour, taught: Floats) -> list[Alert]:
        """Return the revisions that an hour gives rise to.

        Parameters
        ----------
        hour
            Its rows.
        taught
            ``(t,)`` hours of users that taught of each tenant.
        """
        habits, present = self.state.habits, self.present
        if len(hour.turned):
            first = hour.at[hour.turned]
            rule = self._rule[first]
            tenant = present.tenant[first]
            age_ms = present.time_ms[first] - self.people.first_ms[tenant]
            established = (taught[tenant] >= self._least[rule, 0]) & (age_ms >= self._least[rule, 1])
            habits.turn(hour, present, self._budget[rule], established)
        at = hour.at[self._takes[hour.at]]
        if not len(at):
            return []
        users, whose = np.unique(present.user[at], return_inverse=True)
        sums = np.stack([np.bincount(whose, amounts[at], len(users)) for amounts in self._amounts], axis=1)
        before = habits.count[users].astype(np.int64)
        total = before + np.tile(sums.astype(np.int64), len(WINDOW_HOURS))
        habits.count[users] = np.minimum(total, MAX_COUNT)
        much = (total > BUSY_SHARE * habits.limit[users]) & (total > before)
        many: Bools = np.logical_or.reduce(much, axis=1)
        if self.state.takers.watch is not None:
            many[:] = True
        if not many.any():
            return []
        of_many = np.flatnonzero(many[whose])
        return self._judge(at[of_many], before[whose[of_many]])

    def _judge(self, at: Int64s, before: Int64s) -> list[Alert]:
        """Return the revisions of rows of users some of whom take much.

        Parameters
        ----------
        at
            ``(m,)`` positions, ascending; all of the hour's rows of each user.
        before
            ``(m, 6)`` what the row's user had taken before the first of them.
        """
        habits, user, tenant = self.state.habits, self.present.user[at], self.present.tenant[at]
        amount = np.tile(self._amounts[:, at].T, len(WINDOW_HOURS))
        total = before + _running(amount, user)
        taken = np.minimum(total, MAX_COUNT)
        limit = habits.limit[user].astype(np.float64)
        becomes_busy = (total > BUSY_SHARE * limit) & (total - amount <= BUSY_SHARE * limit) & (amount > 0)
        people = np.maximum(habits.busy[tenant] + _running(becomes_busy.astype(np.int64), tenant), 1)
        np.add.at(habits.busy, tenant, becomes_busy)
        excess = np.where(amount > 0, taken / (limit * people), 0.0)
        column = excess.argmax(axis=1)
        rows = np.arange(len(at))
        taken, people = taken[rows, column], people[rows, column]

        def surprises(which: Int64s) -> tuple[Floats, Floats, Floats]:
            """Return scores, thresholds, and what the user takes when busy."""
            chosen = np.arange(len(which)), column[which]
            expected = habits.expected(user[which], tenant[which])
            times, theta, rare = (values[chosen] for values in expected)
            score = surprise(taken[which] / people[which], times, theta) + rare
            return score, surprise(limit[which, column[which]], times, theta) + rare, theta

        users, time_ms = self.people.users, self.present.time_ms[at]
        event_ids = picked(self.batch.columns["event_id"], self.present.rows[at])
        takers = self.state.takers
        if takers.watch is not None:
            takers.watch.see(users, user, time_ms, event_ids, lambda which: surprises(which)[:2])
        found = np.flatnonzero(excess[rows, column] > 1)
        if not len(found):
            return []

        scores, thresholds, theta = surprises(found)

        def look(i: int) -> _Taken:
            window, measure = divmod(int(column[found[i]]), M)
            amount, together = int(taken[found[i]]), int(people[found[i]])
            return _Taken(MEASURES[measure], WINDOW_HOURS[window], amount, float(theta[i]), together)

        quiet_ms = np.array([r.quiet_ms for r in self._rules], np.int64)[self._rule[at[found]]]
        ids = [event_ids[i] for i in found.tolist()]
        crossings = Crossings(
            user[found],
            users,
            time_ms[found],
            quiet_ms,
            ids,
            scores,
            thresholds,
            look,
            scores >= thresholds + HIGH_MARGIN,
        )
        return crossings.fold(takers)


def _running(amounts: Int64s, key: Int64s) -> Int64s:
    """Return ``(m, 6)`` the sums of a key's rows up to and including each, columns by themselves."""
    order = by_key(key)
    starts = starts_of(key[order])
    running = np.empty_like(amounts)
    for column in range(amounts.shape[1]):
        running[order, column] = running_count(amounts[order, column], starts)
    return running
