"""First seen: an access that looks like anybody's rather than like this user's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.columns import Hashed, Tenants, picked
from detectors.crossings import Crossings
from detectors.episode import Episode, Story
from detectors.episodes import EpisodeRule
from detectors.features import ACTION, COMBINATION, FEATURES, Recent, Values
from detectors.habits import FORGET_HOURS, HOUR_MS, Habits, Seen
from detectors.keys import Key, Keys
from detectors.saved import Saved
from detectors.wording import clock_text
from schemas.alert import Alert
from schemas.batch import EventBatch, Int64s

Floats = NDArray[np.float64]
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS
# A user's own habit outweighs the tenant's after five hours of it (detection.md, part C).
TENANT_WEIGHT: Final = 5.0
# The frozen prior, version 1: how often somebody else behind a user's name shows a value that the tenant has
# never met. An intruder mostly calls from elsewhere, often with another program, and mostly does what the
# service is there for. Assumed, not fitted: no tenant's live state tells another's.
STRANGER: Final = np.array([0.9, 0.3, 0.05, 0.05, 0.1])
# A thousand times rarer than the budget asks for.
HIGH_MARGIN: Final = 3.0


class FirstSeenRule(NamedTuple):
    """What holds for a tenant."""

    false_alarms_per_week: float
    tenant_habit_min: int
    user_habit_min: int
    quiet_ms: int


class _Surprise(NamedTuple):
    new: list[str]
    surprises: list[float]
    habit: int


class _Teller:
    detector = "access_anomaly"
    rule = "first_seen"
    facts = _Surprise

    def tell(self, episode: Episode) -> Story:
        surprise: _Surprise = episode.facts
        numbers: dict[str, float | int | str] = {
            f"surprise_{name}": value for name, value in zip(FEATURES, surprise.surprises, strict=True)
        }
        return Story(
            "first_seen",
            "high" if episode.score >= episode.threshold + HIGH_MARGIN else "medium",
            f"{episode.key[2]} looks like somebody else: {', '.join(surprise.new)} for the first time; "
            f"last at {clock_text(episode.last_ms)}",
            {**numbers, "habit": surprise.habit},
            ("T1078",),
            "Ask the user whether it was them: a journey or a new machine explains it. If not, revoke the "
            "sessions and reset the credentials.",
        )


@dataclass
class FirstSeenState:
    """What is remembered of one partition's people.

    Parameters
    ----------
    users
        (tenant, user).
    values
        What there is to show.
    habits
        Who showed what.
    tenants, tenant_first_ms
        Number of each tenant, and when it was first seen.
    recent
        What was learned this hour and need not be looked at again.
    strangers
        Open episodes.
    """

    saved: ClassVar[Saved] = Saved(frozenset({"recent"}))

    users: Keys[Key] = field(default_factory=Keys)
    values: Values = field(default_factory=Values)
    habits: Habits = field(default_factory=Habits)
    tenants: dict[str, int] = field(default_factory=dict)
    tenant_first_ms: list[int] = field(default_factory=list)
    recent: Recent = field(default_factory=Recent)
    strangers: EpisodeRule = field(default_factory=lambda: EpisodeRule(_Teller()))

    def sweep(self, settled_ms: Int64s) -> None:
        """Drop users whose habits are forgotten at the times given, by user."""
        settled_hour = settled_ms // HOUR_MS
        kept = self.habits.user_hour[: len(self.users)] + FORGET_HOURS >= settled_hour
        self.users.keep(kept)
        self.habits.keep(kept)


def surprises(seen: Seen) -> Floats:
    """Return ``(m, f)`` ``log10(q / p)``: how much likelier a stranger shows the value than the user.

    ``p = (n_uv + 5 p_t) / (n_u + 5)`` is the user's habit backed by the tenant's: by what share of the
    tenant's pairs of user and value have the value, after ``(1 + .5 K) / (1 + n)`` of it were left to values
    that nobody has shown, K being how many there are (detection.md, part C).
    """
    left = (1 + 0.5 * seen.tenant_distinct) / (1 + seen.tenant_total)
    share = seen.of_tenant / np.maximum(seen.tenant_total, 1)
    unmet = seen.of_tenant == 0
    by_tenant = np.where(unmet, left, (1 - left) * share)
    by_stranger = np.where(unmet, STRANGER, (1 - STRANGER) * share)
    by_user = (seen.of_user + TENANT_WEIGHT * by_tenant) / (seen.user_total + TENANT_WEIGHT)
    return np.log10(by_stranger / by_user)


def sum_features(surprise: Floats) -> Floats:
    """Return ``(m,)`` sums, added in one order: the last bit must not depend on the batch's shape."""
    total = surprise[:, 0]
    for feature in range(1, len(FEATURES)):
        total = total + surprise[:, feature]
    return total


class FirstSeenFold:
    """Tests and learns the rows of one batch that name a user.

    A row is tested when it shows a value new to its user. `S` is the sum of `surprises`, and a likelihood
    ratio reaches ``10^S`` by chance at most once in ``10^S`` tests (Markov's inequality), so the threshold
    follows from the budget: ``log10(tests a week / false alarms a week)``.

    Parameters
    ----------
    batch
        Not changed.
    state
        Changed.
    rules
        What holds for tenants, by number.
    """

    def __init__(self, batch: EventBatch, state: FirstSeenState, rules: Sequence[FirstSeenRule]) -> None:
        self.batch = batch
        self.state = state
        self.rules = rules
        self.columns: dict[str, Hashed] = {name: Hashed(batch.columns[name]) for name in COMBINATION}
        self.columns["tenant_id"] = Tenants(batch, np.arange(len(batch)))

    def fold(self, rows: Int64s, time_ms: Int64s, rule: Int64s) -> list[Alert]:
        """Return revisions.

        Parameters
        ----------
        rows, time_ms
            ``(n,)`` positions in the batch, ascending, and event times.
        rule
            ``(n,)`` number of the rule that holds.
        """
        hour = time_ms // HOUR_MS
        if len(rows) > 1 and int(hour.max() - hour.min()) > FORGET_HOURS:
            # `Habits` forgets between calls only; a batch that long is an old log being read.
            half = len(rows) // 2
            first = self.fold(rows[:half], time_ms[:half], rule[:half])
            return first + self.fold(rows[half:], time_ms[half:], rule[half:])
        at = self.state.recent.unseen(self.columns, rows, hour)
        if not len(at):
            return []
        return self._learn(rows[at], time_ms[at], rule[at], hour[at])

    def _learn(self, rows: Int64s, time_ms: Int64s, rule: Int64s, hour: Int64s) -> list[Alert]:
        state, columns = self.state, self.columns
        user = state.users.intern((columns["tenant_id"], "user_id", columns["user_id"]), rows)
        value = state.values.number(columns, rows)
        tenant = self._number_tenants(rows, time_ms)
        state.habits.reserve(len(state.users), len(state.values.keys), len(state.tenants))
        least = np.array([(r.user_habit_min, r.tenant_habit_min) for r in self.rules], np.int64)[rule]
        seen = state.habits.learn(user, value, tenant, hour, least[:, 0], least[:, 1])
        if seen is None:
            return []
        at = seen.rows
        surprise = np.where(value[at] >= 0, surprises(seen), 0.0)
        score = sum_features(surprise)
        budget = np.array([r.false_alarms_per_week for r in self.rules])[rule[at]]
        first_ms = np.array(state.tenant_first_ms, np.int64)[tenant[at]]
        weeks = np.maximum(time_ms[at] - first_ms, DAY_MS) / WEEK_MS
        threshold = np.maximum(np.log10(seen.tenant_actions / weeks / budget), 0.0)
        if state.strangers.watch is not None:
            ids = picked(self.batch.columns["event_id"], rows[at])
            state.strangers.watch.see(
                state.users, user[at], time_ms[at], ids, lambda which: (score[which], threshold[which])
            )
        found = np.flatnonzero(score > threshold)
        if not len(found):
            return []
        at = at[found]
        new = (seen.of_user[found] == 0) & (value[at] >= 0)

        def look(i: int) -> tuple[float, float, Any]:
            shown = [
                f"{name.replace('_', ' ')} {state.values.keys[number][2]}"
                for name, number, is_new in zip(FEATURES, value[at[i]].tolist(), new[i].tolist(), strict=True)
                if is_new
            ]
            parts = np.round(surprise[found[i]], 2).tolist()
            habit = int(seen.user_total[found[i], ACTION])
            return float(score[found[i]]), float(threshold[found[i]]), _Surprise(shown, parts, habit)

        crossings = Crossings(
            user[at],
            state.users,
            time_ms[at],
            np.array([r.quiet_ms for r in self.rules], np.int64)[rule[at]],
            picked(self.batch.columns["event_id"], rows[at]),
            look,
        )
        return crossings.fold(state.strangers)

    def _number_tenants(self, rows: Int64s, time_ms: Int64s) -> Int64s:
        """Return ``(n,)`` the number of each row's tenant; a new tenant's first time is kept."""
        state, coded = self.state, self.batch.tenant
        codes, first = np.unique(coded.codes[rows], return_index=True)
        numbers = np.zeros(len(coded.values), np.int64)
        for code, row in zip(codes.tolist(), first.tolist(), strict=True):
            tenant_id = coded.values[code]
            if tenant_id not in state.tenants:
                state.tenants[tenant_id] = len(state.tenants)
                state.tenant_first_ms.append(int(time_ms[row]))
            numbers[code] = state.tenants[tenant_id]
        return numbers[coded.codes[rows]]
