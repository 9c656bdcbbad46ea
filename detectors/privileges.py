"""Privilege changes: somebody gives or takes rights, or acts as somebody else, who never did."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from detectors.clock import HOUR_MS
from detectors.closeness import Watch
from detectors.columns import among, picked, values_at
from detectors.crossings import Crossings
from detectors.decay import share_left, weeks_remembered
from detectors.episode import Episode, Story
from detectors.episodes import EpisodeRule
from detectors.growing import grown
from detectors.people import NEVER, Hour, People, Present
from detectors.wording import clock_text
from detectors.working_hours import WorkingHours
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Floats, Int32s, Int64s

# Two kinds of change; a habit of one is none of the other: support acts as customers all day.
RIGHTS, IDENTITY = 0, 1
RIGHTS_ACTIONS: Final = frozenset({"grant", "revoke", "role_change"})
IDENTITY_ACTIONS: Final = frozenset({"impersonate"})
# Whoever changes one of these changes rights as well.
CHANGES: Final = frozenset({"create", "update", "delete"})
RIGHTS_TYPES: Final = frozenset(
    {"access_policy", "permission", "policy", "role", "role_assignment", "role_binding"}
)
# The frozen prior, version 1: one tenant in twenty sees somebody new do such a thing in its first week.
FIRSTS_GRANTED: Final = 0.05
# Half of what was seen is forgotten in so many hours, twelve weeks: people change their jobs.
HALF_LIFE_HOURS: Final = 12 * 7 * 24
# A first that was told of goes on in its hour and in the next.
GOES_ON_HOURS: Final = 1
# An hour since 1970, below this: told of, in hour _TOLD - value.
_TOLD: Final = -2
HIGH_COUNT: Final = 4


class PrivilegesRule(NamedTuple):
    """What holds for a tenant."""

    false_alarms_per_week: float
    tenant_habit_min: int
    user_habit_min: int
    quiet_ms: int


class _Change(NamedTuple):
    kind: int
    action: str
    resource_type: str | None
    hours: int
    firsts: float


class _Tested(NamedTuple):
    new: bool
    crosses: bool
    score: float
    threshold: float
    change: _Change


class _Teller:
    detector = "access_anomaly"
    facts = _Change

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def tell(self, episode: Episode) -> Story:
        change: _Change = episode.facts
        identity = change.kind == IDENTITY
        did = "acted as somebody else" if identity else "changed rights"
        what = f"{change.action} {change.resource_type}" if change.resource_type else change.action
        times = f", {episode.count} times" if episode.count > 1 else ""
        return Story(
            "privilege_change",
            "high" if identity or episode.count >= HIGH_COUNT else "medium",
            f"{episode.key[2]} {did} ({what}){times}, as never before in {change.hours} hours of work; "
            f"last at {clock_text(episode.last_ms)}",
            {
                "changes": episode.count,
                "action": change.action,
                "hours_known": change.hours,
                "others_new_to_it": round(change.firsts, 2),
            },
            ("T1098.003", "T1548.005"),
            "Ask the user, and whoever approves such changes, what it was for. If nobody knows, undo it, "
            "revoke the sessions, and look at what the rights were used for.",
        )


@dataclass
class PrivilegesState:
    """What is remembered of who changes rights.

    Parameters
    ----------
    since
        ``(u, 2)`` the hour in which each user first did so; `NEVER`; or that and that it was told.
    firsts, firsts_hour
        ``(t, 2)`` users who did so for the first time though they were known well, decayed to the hour given.
    rights, identity
        Open episodes of either kind.
    """

    since: Int32s = field(default_factory=lambda: np.full((0, 2), NEVER, np.int32))
    firsts: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    firsts_hour: Int32s = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    rights: EpisodeRule = field(default_factory=lambda: EpisodeRule(_Teller("privilege_change")))
    identity: EpisodeRule = field(default_factory=lambda: EpisodeRule(_Teller("impersonation")))

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""
        self.since[users[users < len(self.since)]] = NEVER

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""
        self.since = grown(self.since, len(kept), NEVER)[: len(kept)][kept]


class PrivilegesFold:
    """Finds who changes rights for the first time.

    Whether a first is worth an alarm depends on how often there is one of its kind: where `firsts` of users
    known as well come more often than false alarms are tolerated, it is how the tenant works. So
    ``score = -log10(firsts a week)``, and the threshold is the same of the budget.

    Parameters
    ----------
    batch
        Not changed.
    state
        Changed.
    people, present, rule, rules
        Who is there, and ``(n,)`` what holds for each row.
    """

    def __init__(
        self,
        batch: EventBatch,
        state: PrivilegesState,
        people: People,
        present: Present,
        rule: Int64s,
        rules: Sequence[PrivilegesRule],
    ) -> None:
        self.batch, self.state, self.people, self.present = batch, state, people, present
        self._rule, self._rules = rule, rules
        action, kinds = batch.columns["action"], among(batch.columns["resource_type"], RIGHTS_TYPES)
        rights = among(action, RIGHTS_ACTIONS) | (kinds & among(action, CHANGES))
        identity = among(action, IDENTITY_ACTIONS)
        self._changes = ((rights | identity) & ~batch.failed)[present.rows]
        self._identity = identity[present.rows]

    def fold(self, hour: Hour, working: WorkingHours) -> list[Alert]:
        """Return the revisions that an hour gives rise to.

        Parameters
        ----------
        hour
            Its rows.
        working
            How well users and tenants are known.
        """
        at = hour.at[self._changes[hour.at]]
        if not len(at):
            return []
        state = self.state
        state.since = grown(state.since, len(self.people.users), NEVER)
        state.firsts = grown(state.firsts, len(self.people.tenants), 0.0)
        state.firsts_hour = grown(state.firsts_hour, len(self.people.tenants), 0)
        tested: dict[int, _Tested] = {}
        for row in at.tolist():
            if found := self._test(row, working):
                tested[row] = found
        alerts: list[Alert] = []
        for kind, episodes in ((RIGHTS, state.rights), (IDENTITY, state.identity)):
            mine = {row: found for row, found in tested.items() if found.change.kind == kind}
            if episodes.watch is not None:
                self._show(mine, episodes.watch)
            if mine := {row: found for row, found in mine.items() if found.crosses}:
                alerts += self._tell(mine, episodes)
        return alerts

    def _tell(self, tested: dict[int, _Tested], episodes: EpisodeRule) -> list[Alert]:
        """Return the revisions that rows of one kind give rise to."""
        present = self.present
        found = list(tested.values())
        at = np.array(list(tested), np.int64)
        quiet_ms = np.array([r.quiet_ms for r in self._rules], np.int64)[self._rule[at]]
        crossings = Crossings(
            present.user[at],
            self.people.users,
            present.time_ms[at],
            np.maximum(quiet_ms, (1 + GOES_ON_HOURS) * HOUR_MS),
            picked(self.batch.columns["event_id"], present.rows[at]),
            np.array([one.score for one in found]),
            np.array([one.threshold for one in found]),
            lambda i: found[i].change,
        )
        return crossings.fold(episodes)

    def _test(self, row: int, working: WorkingHours) -> _Tested | None:
        """Return what there is to say of a row; None: the user is not known well enough, or known for it."""
        state, present, rule = self.state, self.present, self._rules[int(self._rule[row])]
        user, tenant = int(present.user[row]), int(present.tenant[row])
        hour = int(self.people.tenant_hour[tenant])
        kind = IDENTITY if self._identity[row] else RIGHTS
        since, hours = int(state.since[user, kind]), working.hours_of(user)
        new = since == NEVER
        goes_on = since <= _TOLD and hour - (_TOLD - since) <= GOES_ON_HOURS
        if new:
            state.since[user, kind] = hour
        known_well = hours >= rule.user_habit_min and working.taught[tenant] >= rule.tenant_habit_min
        if not (new and known_well) and not goes_on:
            return None
        since_last = hour - state.firsts_hour[tenant, kind]
        firsts = float(state.firsts[tenant, kind] * share_left(since_last, HALF_LIFE_HOURS))
        weeks = weeks_remembered(hour - self.people.first_ms[tenant] // HOUR_MS, HALF_LIFE_HOURS)
        score = -np.log10((firsts + FIRSTS_GRANTED) / weeks)
        threshold = -np.log10(rule.false_alarms_per_week)
        crosses = goes_on or score > threshold
        if new:
            state.firsts[tenant, kind], state.firsts_hour[tenant, kind] = firsts + 1, hour
            if crosses:
                state.since[user, kind] = _TOLD - hour
        columns, at = self.batch.columns, present.rows[row : row + 1]
        [action], [resource_type] = (values_at(columns[name], at) for name in ("action", "resource_type"))
        change = _Change(kind, action, resource_type, hours, firsts)
        return _Tested(new, crosses, float(score), float(threshold), change)

    def _show(self, tested: dict[int, _Tested], watch: Watch) -> None:
        """Tell who listens of firsts."""
        rows = np.array([row for row, found in tested.items() if found.new], np.int64)
        scores, thresholds = (
            np.array([getattr(tested[row], name) for row in rows.tolist()]) for name in ("score", "threshold")
        )
        watch.see(
            self.people.users,
            self.present.user[rows],
            self.present.time_ms[rows],
            picked(self.batch.columns["event_id"], self.present.rows[rows]),
            lambda which: (scores[which], thresholds[which]),
        )
