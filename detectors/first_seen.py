"""First seen: an access that looks like anybody's rather than like this user's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from detectors.clock import DAY_MS, WEEK_MS
from detectors.columns import Hashed, picked
from detectors.crossings import Crossings
from detectors.episode import Episode, Story
from detectors.episodes import EpisodeRule
from detectors.features import ACTION, FEATURES, Values
from detectors.habits import Habits, Seen
from detectors.people import People, Present
from detectors.wording import clock_text
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Floats, Int64s

# A user's own habit outweighs the tenant's after five hours of it.
TENANT_WEIGHT: Final = 5.0
# More hours of a habit weigh no more: two months of full days. Or the surprise at whatever is new would grow
# with every year that somebody stays, until a journey alone were an alarm.
FULL_HABIT: Final = 320
# The frozen prior, version 1: how often somebody else behind a user's name shows a value that the tenant has
# never met. An intruder mostly calls from elsewhere, often with another program, and mostly does what the
# service is there for. Assumed, not fitted: no tenant's live state tells another's.
STRANGER: Final = np.array([0.9, 0.3, 0.05, 0.05, 0.1])
# What a score is the sum of.
PARTS: Final = (*FEATURES, "hour")
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
            f"surprise_{name}": value for name, value in zip(PARTS, surprise.surprises, strict=True)
        }
        return Story(
            "first_seen",
            "high" if episode.grade else "medium",
            f"{episode.key[2]} looks like somebody else: {', '.join(surprise.new)} for the first time; "
            f"last at {clock_text(episode.last_ms)}",
            {**numbers, "habit": surprise.habit},
            ("T1078",),
            "Ask the user whether it was them: a journey or a new machine explains it. If not, revoke the "
            "sessions and reset the credentials.",
        )


@dataclass
class FirstSeenState:
    """What is remembered of one partition's habits.

    Parameters
    ----------
    values
        What there is to show.
    habits
        Who showed what.
    strangers
        Open episodes.
    """

    values: Values = field(default_factory=Values)
    habits: Habits = field(default_factory=Habits)
    strangers: EpisodeRule = field(default_factory=lambda: EpisodeRule(_Teller()))


@dataclass(frozen=True, slots=True)
class Strange:
    """Rows that show a value new to their user.

    Parameters
    ----------
    at
        ``(m,)`` positions in `Present`.
    new
        ``(m, f)`` which values are new to the user.
    value
        ``(m, f)`` their numbers.
    surprise
        ``(m, f)``.
    threshold
        ``(m,)`` of the sum.
    habit
        ``(m,)`` actions that taught of the user.
    """

    at: Int64s
    new: Bools
    value: Int64s
    surprise: Floats
    threshold: Floats
    habit: Int64s


_NOTHING: Final = Strange(
    at=np.zeros(0, np.int64),
    new=np.zeros((0, len(FEATURES)), np.bool_),
    value=np.zeros((0, len(FEATURES)), np.int64),
    surprise=np.zeros((0, len(FEATURES))),
    threshold=np.zeros(0),
    habit=np.zeros(0, np.int64),
)


def surprises(seen: Seen) -> Floats:
    """Return ``(m, f)`` ``log10(q / p)``: how much likelier a stranger shows the value than the user.

    ``p = (n_uv + 5 p_t) / (n_u + 5)`` is the user's habit backed by the tenant's: by what share of the
    tenant's pairs of user and value have the value, after ``(1 + .5 K) / (1 + n)`` of it were left to values
    that nobody has shown, K being how many there are (docs/detection.md, models). Where n_u is more than a
    full habit, both counts are made smaller alike until it is not.
    """
    left = (1 + 0.5 * seen.tenant_distinct) / (1 + seen.tenant_total)
    share = seen.of_tenant / np.maximum(seen.tenant_total, 1)
    unmet = seen.of_tenant == 0
    by_tenant = np.where(unmet, left, (1 - left) * share)
    by_stranger = np.where(unmet, STRANGER, (1 - STRANGER) * share)
    total = np.minimum(seen.user_total, FULL_HABIT)
    of_user = seen.of_user * (total / np.maximum(seen.user_total, 1))
    by_user = (of_user + TENANT_WEIGHT * by_tenant) / (total + TENANT_WEIGHT)
    return np.log10(by_stranger / by_user)


def sum_features(surprise: Floats) -> Floats:
    """Return ``(m,)`` sums, added in one order: the last bit must not depend on the batch's shape."""
    total = surprise[:, 0]
    for feature in range(1, len(FEATURES)):
        total = total + surprise[:, feature]
    return total


class FirstSeenFold:
    """Learns from the rows of one batch, and tests them.

    A row is tested when it shows a value new to its user. `S` is the sum of `surprises` and of how unusual
    the hour is; a likelihood ratio reaches ``10^S`` by chance at most once in ``10^S`` tests (Markov's
    inequality), so the threshold follows from the budget: ``log10(tests a week / false alarms a week)``.

    Parameters
    ----------
    batch, columns
        Not changed.
    state, people
        Changed.
    present
        The rows.
    """

    def __init__(
        self,
        batch: EventBatch,
        columns: Mapping[str, Hashed],
        state: FirstSeenState,
        people: People,
        present: Present,
    ) -> None:
        self.batch, self.columns = batch, columns
        self.state, self.people, self.present = state, people, present

    def learn(self, rule: Int64s, rules: Sequence[FirstSeenRule]) -> Strange:
        """Return the rows that are to be tested; all have been learned.

        Parameters
        ----------
        rule, rules
            ``(n,)`` what holds, by number.
        """
        state, people, present = self.state, self.people, self.present
        unseen = present.unseen
        if not len(unseen):
            return _NOTHING
        user, tenant, time_ms = present.user[unseen], present.tenant[unseen], present.time_ms[unseen]
        rule = rule[unseen]
        value = state.values.number(self.columns, present.rows[unseen])
        state.habits.reserve(len(people.users), len(state.values.keys), len(people.tenants))
        least = np.array([(r.user_habit_min, r.tenant_habit_min) for r in rules], np.int64)[rule]
        seen = state.habits.learn(user, value, tenant, present.hour[unseen], least[:, 0], least[:, 1])
        if seen is None:
            return _NOTHING
        at = seen.rows
        surprise = np.where(value[at] >= 0, surprises(seen), 0.0)
        budget = np.array([r.false_alarms_per_week for r in rules])[rule[at]]
        weeks = np.maximum(time_ms[at] - people.first_ms[tenant[at]], DAY_MS) / WEEK_MS
        threshold = np.maximum(np.log10(seen.tenant_actions / weeks / budget), 0.0)
        return Strange(
            unseen[at],
            (seen.of_user == 0) & (value[at] >= 0),
            value[at],
            surprise,
            threshold,
            seen.user_total[:, ACTION],
        )

    def tell(
        self, strange: Strange, unusual_hour: Floats, rule: Int64s, rules: Sequence[FirstSeenRule]
    ) -> list[Alert]:
        """Return revisions.

        Parameters
        ----------
        strange
            Rows to be tested.
        unusual_hour
            ``(m,)`` how much likelier a stranger than the user is there at the time of each, as log10.
        rule, rules
            As in `learn`.
        """
        score = sum_features(strange.surprise) + unusual_hour
        user, time_ms = self.present.user[strange.at], self.present.time_ms[strange.at]
        watch = self.state.strangers.watch
        if watch is not None:
            ids = picked(self.batch.columns["event_id"], self.present.rows[strange.at])
            watch.see(
                self.people.users, user, time_ms, ids, lambda which: (score[which], strange.threshold[which])
            )
        found = np.flatnonzero(score > strange.threshold)
        if not len(found):
            return []
        at = strange.at[found]
        keys = self.state.values.keys

        def look(i: int) -> _Surprise:
            row = found[i]
            shown = [
                f"{name.replace('_', ' ')} {keys[number][2]}"
                for name, number, is_new in zip(
                    FEATURES, strange.value[row].tolist(), strange.new[row].tolist(), strict=True
                )
                if is_new
            ]
            parts = np.round(np.append(strange.surprise[row], unusual_hour[row]), 2).tolist()
            return _Surprise(shown, parts, int(strange.habit[row]))

        crossings = Crossings(
            user[found],
            self.people.users,
            time_ms[found],
            np.array([r.quiet_ms for r in rules], np.int64)[rule[at]],
            picked(self.batch.columns["event_id"], self.present.rows[at]),
            score[found],
            strange.threshold[found],
            look,
            score[found] >= strange.threshold[found] + HIGH_MARGIN,
        )
        return crossings.fold(self.state.strangers)
