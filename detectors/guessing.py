"""Distributed guessing: a tenant's doors tried from many addresses, each of which stays below its own bucket.

What counts is a failure of a user from an address from where that user never logged in, once an hour. Tenants
to whom that happens in a batch are gone through row by row, in order of arrival; for all others a success
only has to be remembered, in columns.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from detectors.columns import Hashed, Tenants, named
from detectors.guessing_members import Member, Members
from detectors.guessing_pressure import MINUTE_MS, WINDOWS, Pressure, Recent
from detectors.guessing_state import HOUR_MS, NEVER_SUCCEEDED_MS, GuessingRule, GuessingState
from detectors.segments import by_key, running_max, starts_of
from schemas.alert import Alert
from schemas.batch import Bools, Int32s, Int64s

WINDOWS_MS: Final = np.array(WINDOWS, np.int64) * MINUTE_MS


class Attempts(NamedTuple):
    """The attempts of a batch, as columns ``(n,)`` in order of arrival.

    Parameters
    ----------
    tenants, codes
        Names, and each row's.
    time_ms, rule, failed, unknown
        Event times; number of the rule that holds; outcomes; whether the user is said not to exist.
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
    parts: tuple[Tenants, Hashed, Hashed]
    event_ids: Sequence[str]


def fold_guessing(
    state: GuessingState, rules: Sequence[GuessingRule], attempts: Attempts, explained: Bools, hot: Bools
) -> tuple[list[Alert], Int64s]:
    """Return revisions, and the rows of successes in the middle of guessing, ascending.

    Parameters
    ----------
    state
        Changed.
    explained
        ``(n,)`` failures that another alert tells of: they count for nothing here.
    hot
        ``(n,)`` successes that a bucket makes suspicious: nothing is learned from them.
    """
    fold = _Fold(state, rules, attempts, explained, hot)
    fold.run()
    return fold.alerts(), np.sort(np.array(fold.suspicious, np.int64))


class _Fold:
    def __init__(
        self,
        state: GuessingState,
        rules: Sequence[GuessingRule],
        attempts: Attempts,
        explained: Bools,
        hot: Bools,
    ) -> None:
        self.state, self.rules, self.attempts, self.hot = state, rules, attempts, hot
        _, users, addresses = parts = attempts.parts
        with_user = named(users.values)
        self.won = (~attempts.failed & with_user).nonzero()[0]
        self.lost = (attempts.failed & ~explained & (with_user | named(addresses.values))).nonzero()[0]
        self.pair = np.full(len(hot), -1, np.int64)
        self.pair[self.won] = state.pairs.intern(parts, self.won)
        self.pair[self.lost] = state.pairs.find(parts, self.lost)
        self.tenant = state.reserve(attempts.tenants)[attempts.codes]
        self.suspicious: list[int] = []
        self.members = Members()

    def run(self) -> None:
        """Learn from successes in columns, and go through noisy tenants row by row."""
        state, rows = self.state, self.attempts
        self.at_ms = self._lift()
        since_ms = self.at_ms - np.array([rule.known_ms for rule in self.rules], np.int64)[rows.rule]
        new = (self.pair < 0) | (np.append(state.pair_ms, NEVER_SUCCEEDED_MS)[self.pair] < since_ms)
        lost = self.lost[new[self.lost]]
        login = self._logins()
        noisy = np.zeros(len(state.tenants), np.bool_)
        noisy[self.tenant[lost]] = True
        noisy[self.tenant[self.hot]] = True
        noisy[[state.tenants[tenant] for tenant in state.alarms.episodes.open]] = True
        row_by_row = new[self.won] & noisy[self.tenant[self.won]]
        taught = self.won[~row_by_row & ~self.hot[self.won]]
        np.maximum.at(state.pair_ms, self.pair[taught], self.at_ms[taught])
        picked = np.sort(np.concatenate((lost, self.won[row_by_row])))
        self._go_through(picked, login)
        self._keep(login)

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

    def _logins(self) -> Bools:
        """Return ``(n,)`` which successes are logins: one of a user from an address in an hour."""
        login = np.zeros(len(self.hot), np.bool_)
        rows = self.won[~self.hot[self.won]]
        order = by_key(self.pair[rows])
        pair, hour = self.pair[rows][order], (self.at_ms[rows][order] // HOUR_MS).astype(np.int32)
        starts = starts_of(pair)
        before = np.empty_like(hour)
        before[1:] = hour[:-1]
        before[starts] = self.state.login_hour[pair[starts]]
        login[rows[order]] = hour > before
        self.state.login_hour[pair] = hour
        return login

    def _go_through(self, rows: Int64s, login: Bools) -> None:
        order = by_key(self.tenant[rows])
        rows = rows[order]
        lost = rows[self.attempts.failed[rows]]
        self.who = dict(zip(lost.tolist(), self._who(lost).tolist(), strict=True))
        starts = starts_of(self.tenant[rows])
        for group in np.split(rows, starts[1:]) if len(rows) else ():
            logins = (login & (self.tenant == self.tenant[group[0]])).nonzero()[0]
            self._follow(group, logins)

    def _who(self, rows: Int64s) -> Int64s:
        """Return ``(m,)`` the numbers of who failed, and from where."""
        found = self.state.failed.intern(self.attempts.parts, rows)
        self.state.reserve(())
        return found

    def _follow(self, rows: Int64s, login_rows: Int64s) -> None:
        """Go through the rows of one tenant in order of arrival."""
        state, attempts = self.state, self.attempts
        number = int(self.tenant[rows[0]])
        tenant_id = attempts.tenants[int(attempts.codes[rows[0]])]
        rule = self.rules[int(attempts.rule[rows[0]])]
        pressure = state.pressures.get(tenant_id)
        arrived, login_ms = login_rows.tolist(), self.at_ms[login_rows].tolist()
        used = 0
        for row in rows.tolist():
            time_ms, pair = int(self.at_ms[row]), int(self.pair[row])
            known = pair >= 0 and state.pair_ms[pair] >= time_ms - rule.known_ms
            if not attempts.failed[row]:
                alarmed = pressure is not None and pressure.suspects(time_ms)
                if not known and (alarmed or self.hot[row]):
                    self.suspicious.append(row)
                elif not self.hot[row]:
                    state.pair_ms[pair] = time_ms
                continue
            if known or state.counted_ms[self.who[row]] > time_ms - HOUR_MS:
                continue
            state.counted_ms[self.who[row]] = time_ms
            pressure = pressure or state.pressures.setdefault(tenant_id, Pressure())
            seen = bisect_left(arrived, row)
            logins = int(state.new_logins[number]) + seen - used
            state.new_logins[number], used = 0, seen
            event = self._event(row)
            if time_ms < pressure.until_ms:
                pressure.go_on(time_ms, rule.threshold, logins)
                self.members.add(Member(tenant_id, event, pressure.quiet_ms, rule.threshold, [event], None))
                continue
            verdict = pressure.meet(event, logins, self._logins_in(number, time_ms, login_ms[:seen]))
            if verdict.score <= rule.threshold:
                continue
            if led := pressure.led_to(verdict):
                pressure.raise_alarm(led, rule.threshold, rule.quiet_ms)
                self.members.add(Member(tenant_id, event, pressure.quiet_ms, rule.threshold, led, verdict))
        state.new_logins[number] -= used

    def _event(self, row: int) -> Recent:
        _, users, addresses = self.attempts.parts
        unknown = bool(self.attempts.unknown[row])
        time_ms, event_id = int(self.at_ms[row]), self.attempts.event_ids[row]
        return time_ms, event_id, users.values[row], unknown, addresses.values[row]

    def _logins_in(self, number: int, time_ms: int, login_ms: list[int]) -> tuple[int, ...]:
        """Return logins in the current window of each length, before a row."""
        found: list[int] = []
        for i, length_ms in enumerate(WINDOWS_MS.tolist()):
            window = time_ms // length_ms
            before = int(self.state.logins[number, i]) if self.state.window[number, i] == window else 0
            found.append(before + len(login_ms) - bisect_left(login_ms, window * length_ms))
        return tuple(found)

    def _keep(self, login: Bools) -> None:
        """Count the batch's logins into the windows that it ends in."""
        state = self.state
        tenants, at_ms = self.tenant[login], self.at_ms[login]
        state.new_logins += np.bincount(tenants, minlength=len(state.new_logins))
        met = np.unique(self.tenant)
        window = state.last_ms[met, None] // WINDOWS_MS
        state.logins[met] *= state.window[met] == window
        state.window[met] = window
        for i, length_ms in enumerate(WINDOWS_MS.tolist()):
            current = tenants[at_ms // length_ms == state.window[tenants, i]]
            state.logins[:, i] += np.bincount(current, minlength=len(state.logins))

    def alerts(self) -> list[Alert]:
        """Return the revisions that failures in alarms give rise to."""
        return self.members.fold(self.state.alarms)
