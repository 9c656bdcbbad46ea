"""Distributed guessing: a tenant's doors tried from many addresses, each of which stays below its own bucket.

What counts is a failure of a user from an address from where that user never logged in, once an hour. Tenants
to whom that happens in a batch are gone through row by row, in order of arrival; for all others a success
only has to be remembered, in columns.
"""

from collections.abc import Iterator, Sequence
from operator import sub
from typing import NamedTuple

import numpy as np

from detectors.clock import HOUR_MS
from detectors.columns import Hashed, Tenants, named, values_at
from detectors.guessing_exposure import WINDOWS_MS, Arrivals, Exposures, count_into
from detectors.guessing_members import Member, Members
from detectors.guessing_pressure import Exposure, Pressure, Recent
from detectors.guessing_state import GuessingRule, GuessingState
from detectors.keys import Key, Keys
from detectors.networks import places
from detectors.pairs import LONG_AGO_MS
from detectors.segments import by_key, running_max, starts_of
from detectors.surprise import LN_10
from schemas.alert import Alert
from schemas.batch import Bools, Int32s, Int64s


class Attempts(NamedTuple):
    """The attempts of a batch, as columns ``(n,)`` in order of arrival.

    Parameters
    ----------
    tenants, codes
        Names, and each row's.
    time_ms, rule, failed, unknown, with_key
        Event times; number of the rule that holds; outcomes; whether the user is said not to exist; whether
        the attempt was with a key, which nobody guesses.
    parts
        Tenants, users and addresses, as parts of keys.
    event_ids
        Ids.
    """

    tenants: Sequence[str]
    codes: Int32s
    time_ms: Int64s
    rule: Int64s
    failed: Bools
    unknown: Bools
    with_key: Bools
    parts: tuple[Tenants, Hashed, Hashed]
    event_ids: Sequence[str]


class GuessingFold:
    """Folds the attempts of a batch, in two steps: buckets are filled in between.

    Parameters
    ----------
    state
        Changed.
    rules
        What holds for tenants, by number.
    attempts
        The batch.

    Attributes
    ----------
    away, stranger
        ``(n,)`` attempts of users from where they never logged in, and of those who never did from anywhere,
        as far as is known of them.
    login
        ``(n,)`` successes that count as a login: the first of a user from an address in an hour.
    suspicious, taken
        Rows of successes from new places, once `run` found them: those that only a bucket makes suspicious,
        and those in the middle of guessing at the tenant.
    """

    def __init__(self, state: GuessingState, rules: Sequence[GuessingRule], attempts: Attempts) -> None:
        self.state, self.rules, self.attempts = state, rules, attempts
        tenants, users, addresses = attempts.parts
        self.parts = tenants, users, places(addresses)
        with_user = named(users.values)
        self.won = (~attempts.failed & with_user).nonzero()[0]
        self.lost = (attempts.failed & (with_user | named(addresses.values))).nonzero()[0]
        self.tenant = state.reserve(attempts.tenants)[attempts.codes]
        self.at_ms = self._lift()
        met = state.pairs.meet(self.parts, self.won, self.lost, self.at_ms)
        self.pair, self.before_ms, user_ms = met
        known_ms = np.array([rule.known_ms for rule in rules], np.int64)[attempts.rule]
        self.since_ms = self.at_ms - known_ms
        self.away, self.stranger = self.before_ms < self.since_ms, user_ms < self.since_ms
        # Of people who are known here, from a place that is not.
        self.moved = self.away & ~self.stranger
        self.login = np.zeros(len(self.at_ms), np.bool_)
        self.login[self.won] = (self.before_ms // HOUR_MS < self.at_ms // HOUR_MS)[self.won]
        # Failures from where their users often log in, the first of each in an hour.
        self.familiar = np.zeros(len(self.at_ms), np.bool_)
        self.suspicious: list[int] = []
        self.taken: list[int] = []
        self.members = Members()
        # Rows that were put to the test, with score and threshold, where somebody wants to know.
        self.tested: list[tuple[int, float, float]] = []

    def run(self, explained: Bools, hot: Bools) -> list[Alert]:
        """Learn from successes in columns, go through noisy tenants row by row, and return revisions.

        Parameters
        ----------
        explained
            ``(n,)`` failures that another alert tells of: they count for nothing here.
        hot
            ``(n,)`` successes that a bucket makes suspicious: nothing is learned from them.
        """
        state, self.hot = self.state, hot
        known_ms = np.append(state.pairs.known_ms, LONG_AGO_MS)[self.pair]
        new = (self.pair < 0) | (known_ms < self.since_ms)
        lost = self.lost[~explained[self.lost]]
        known = lost[~new[lost]]
        self.familiar[known] = state.pairs.fail(self.pair[known], self.at_ms[known])
        lost = lost[new[lost]]
        noisy = np.zeros(len(state.tenants), np.bool_)
        noisy[self.tenant[lost]] = True
        noisy[self.tenant[hot]] = True
        noisy[[state.tenants[tenant] for tenant in state.alarms.episodes.open]] = True
        row_by_row = new[self.won] & noisy[self.tenant[self.won]]
        taught = self.won[~row_by_row & ~hot[self.won]]
        np.maximum.at(state.pairs.known_ms, self.pair[taught], self.at_ms[taught])
        self.teaching = self.login & ~hot
        self._go_through(np.sort(np.concatenate((lost, self.won[row_by_row]))))
        self._keep()
        self._show()
        return self.members.fold(state.alarms)

    def _lift(self) -> Int64s:
        """Return ``(n,)`` times that never run backwards for a tenant."""
        state = self.state
        order = by_key(self.tenant)
        tenant = self.tenant[order]
        starts = starts_of(tenant)
        lifted = running_max(self.attempts.time_ms[order], starts, state.last_ms[tenant[starts]])
        state.last_ms[tenant[starts]] = lifted[np.append(starts[1:], len(order)) - 1]
        at_ms = np.empty_like(lifted)
        at_ms[order] = lifted
        return at_ms

    def _go_through(self, rows: Int64s) -> None:
        order = by_key(self.tenant[rows])
        rows = rows[order]
        lost = rows[self.attempts.failed[rows]]
        self.who = dict(zip(lost.tolist(), self._who(lost).tolist(), strict=True))
        self.events = dict(zip(lost.tolist(), self._events(lost), strict=True))
        starts = starts_of(self.tenant[rows])
        # Every tenant's rows, found once: there may be thousands that have failures.
        all_rows = by_key(self.tenant)
        first, last = (
            np.searchsorted(self.tenant[all_rows], self.tenant[rows[starts]], side)
            for side in ("left", "right")
        )
        groups = np.split(rows, starts[1:]) if len(rows) else ()
        for group, start, stop in zip(groups, first.tolist(), last.tolist(), strict=True):
            here = all_rows[start:stop]
            login = here[self.teaching[here]]
            kinds = (login, login[self.moved[login]], here[self.familiar[here]])
            self._follow(group, Exposures(*(Arrivals(kind, self.at_ms) for kind in kinds)))

    def _events(self, rows: Int64s) -> Iterator[Recent]:
        """Yield what is remembered of failures."""
        attempts = self.attempts
        _, users, addresses = attempts.parts
        return zip(
            self.at_ms[rows].tolist(),
            values_at(attempts.event_ids, rows),
            values_at(users.values, rows),
            attempts.unknown[rows].tolist(),
            values_at(addresses.values, rows),
            strict=True,
        )

    def _who(self, rows: Int64s) -> Int64s:
        """Return ``(m,)`` the numbers of who failed, and from where."""
        found = self.state.failed.intern(self.parts, rows)
        self.state.reserve(())
        return found

    def _follow(self, rows: Int64s, exposures: Exposures) -> None:
        """Go through the rows of one tenant in order of arrival."""
        state, attempts = self.state, self.attempts
        number = int(self.tenant[rows[0]])
        tenant_id = attempts.tenants[int(attempts.codes[rows[0]])]
        rule = self.rules[int(attempts.rule[rows[0]])]
        pressure = state.pressures.get(tenant_id)
        used = [-count for count in state.recent[number].tolist()]
        columns = (rows, self.at_ms[rows], self.pair[rows], attempts.failed[rows], attempts.with_key[rows])
        for row, time_ms, pair, failed, with_key in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            known = pair >= 0 and state.pairs.known_ms[pair] >= time_ms - rule.known_ms
            if not failed:
                alarmed = pressure is not None and not with_key and self._suspects(pressure, row)
                if not known and (alarmed or self.hot[row]):
                    (self.taken if alarmed else self.suspicious).append(row)
                    # Nothing is learned from it: else guessers who get in would make it usual.
                    self.teaching[row] = False
                    exposures.logins.drop(row)
                    exposures.newcomers.drop(row)
                elif not self.hot[row]:
                    state.pairs.known_ms[pair] = time_ms
                continue
            if known:
                # It became so in this batch.
                self._find_familiar(row, exposures.familiar)
                continue
            if state.counted_ms[self.who[row]] > time_ms - HOUR_MS:
                continue
            state.counted_ms[self.who[row]] = time_ms
            pressure = pressure or state.pressures.setdefault(tenant_id, Pressure())
            seen = exposures.before(row)
            exposure, used = Exposure(*map(sub, seen, used)), seen
            event = self.events[row]
            if time_ms < pressure.until_ms:
                pressure.go_on(event, rule.threshold, exposure)
                self._test(row, pressure.drift / LN_10, rule.threshold)
                self.members.add(Member(tenant_id, event, pressure.quiet_ms, rule.threshold, [event], None))
                continue
            window, counts = state.window[number], state.in_window[number]
            verdict = pressure.meet(event, exposure, exposures.in_windows(row, time_ms, window, counts))
            if verdict.score <= rule.threshold:
                self._test(row, verdict.score, rule.threshold)
                continue
            if led := pressure.led_to(verdict, rule.threshold):
                self._test(row, verdict.score, rule.threshold)
                pressure.raise_alarm(led, rule.threshold, rule.quiet_ms)
                self.members.add(Member(tenant_id, event, pressure.quiet_ms, rule.threshold, led, verdict))
        state.recent[number] = [-count for count in used]

    def _find_familiar(self, row: int, familiar: Arrivals) -> None:
        one = np.array([row])
        if self.state.pairs.fail(self.pair[one], self.at_ms[one])[0]:
            self.familiar[row] = True
            familiar.add(row, int(self.at_ms[row]))

    def _test(self, row: int, score: float, threshold: float) -> None:
        if self.state.alarms.watch is not None:
            self.tested.append((row, score, threshold))

    def _show(self) -> None:
        """Show how close the tested failures came to an alarm of their tenant."""
        watch = self.state.alarms.watch
        if watch is None or not self.tested:
            return
        rows, scores, thresholds = map(np.array, zip(*sorted(self.tested), strict=True))
        tenants, keys = self.attempts.parts[0], Keys[Key]()
        slot = keys.intern((tenants, "tenant_id", tenants), rows)
        ids = [self.attempts.event_ids[row] for row in rows.tolist()]
        watch.see(keys, slot, self.at_ms[rows], ids, lambda at: (scores[at], thresholds[at]))

    def _suspects(self, pressure: Pressure, row: int) -> bool:
        _, users, where = self.parts
        known = not self.stranger[row]
        return pressure.suspects(int(self.at_ms[row]), users.values[row], where.values[row], known=known)

    def _keep(self) -> None:
        """Count what explains failures into the windows that the batch ends in."""
        state, login = self.state, self.teaching
        for i, kind in enumerate((login, login & self.moved, self.familiar)):
            state.recent[:, i] += np.bincount(self.tenant[kind], minlength=len(state.recent))
        met = np.unique(self.tenant)
        window = state.last_ms[met, None] // WINDOWS_MS
        state.in_window[met] *= (state.window[met] == window)[:, :, None]
        state.window[met] = window
        count_into(state.window, state.in_window, self.tenant, self.at_ms, (login, self.familiar))
