"""Failed logins: guessing at one user, spraying over many, and the success that follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from detectors.buckets import BucketRule, Buckets, Events, Floats
from detectors.clock import LATE_MS, Clock
from detectors.columns import Hashed, Tenants, named, taken
from detectors.crossings import Crossings
from detectors.episodes import Episodes, alert_of, in_order
from detectors.failed_login_stories import AddressTeller, SuccessTeller, UserTeller
from detectors.keys import Key, Keys, grown
from detectors.parameters import DAY_S, FailedLoginParameters, Rules, resolve
from detectors.segments import by_key, running_max, starts_of
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Int64s
from schemas.event import Kind
from schemas.tenant import Tenant

# What proves identity. A token's refresh fails whenever one has expired, a logout or a password change
# needs a session: their failures are no guesses.
ATTEMPTS: Final = frozenset({"login", "token_issue", "api_key_use", "mfa"})
UNKNOWN_USER: Final = frozenset({"unknown_user", "invalid_user", "no_such_user", "user_not_found"})
WIDTH: Final = 5
# Further back than any time less the longest `known_days`.
NEVER_SUCCEEDED_MS: Final = -(1 << 40)
SUCCESS: Final = SuccessTeller()


@dataclass
class FailedLoginState:
    """What is remembered of one partition's logins.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    addresses, users
        Leaky buckets by (tenant, address) and by (tenant, user).
    pairs, pair_ms
        (tenant, user, address) that logged in, and when last, milliseconds.
    successes
        Open episodes of logins in the middle of guessing.
    """

    clock: Clock = field(default_factory=Clock)
    addresses: BucketRule = field(default_factory=lambda: BucketRule(AddressTeller(), WIDTH))
    users: BucketRule = field(default_factory=lambda: BucketRule(UserTeller(), WIDTH))
    pairs: Keys[tuple[str, str, str | None]] = field(default_factory=Keys)
    pair_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    successes: Episodes = field(default_factory=Episodes)

    def open_tenants(self) -> set[str]:
        """Return the tenants that have an open episode."""
        return {*self.addresses.episodes.open, *self.users.episodes.open, *self.successes.open}

    def settle(self, settled_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over, by tenant and time."""
        alerts: list[Alert] = []
        for tenant_id, until_ms in settled_ms.items():
            alerts.extend(self.addresses.settle(tenant_id, until_ms))
            alerts.extend(self.users.settle(tenant_id, until_ms))
            over = self.successes.end_due(tenant_id, until_ms)
            alerts.extend(alert_of(SUCCESS, episode, "resolved") for episode in over)
        return alerts

    def sweep(self, known_ms: int) -> None:
        """Drop what no verdict can depend on any more; successes older than `known_ms` count for nothing."""
        self.addresses.sweep(self.clock)
        self.users.sweep(self.clock)
        if self.pairs.crowded:
            n = len(self.pairs)
            settled_ms = np.fromiter((self.clock.settled_ms(key[0]) for key in self.pairs.names), np.int64, n)
            kept = self.pair_ms[:n] >= settled_ms - known_ms
            self.pairs.keep(kept)
            self.pair_ms = self.pair_ms[:n][kept]


@dataclass(frozen=True, slots=True)
class _Rule:
    by_address: Buckets
    by_user: Buckets
    known_ms: int
    quiet_ms: int


def _rule(parameters: FailedLoginParameters) -> _Rule:
    p = parameters
    sizes = (p.burst_failures, p.minute_failures, p.hour_failures, p.strict_failures)
    leaks = (p.burst_leak_s, p.minute_leak_s, p.hour_leak_s, p.strict_leak_s, p.new_users_leak_s)
    leaks_ms, quiet_ms = tuple(1000 * leak_s for leak_s in leaks), 1000 * p.quiet_s
    return _Rule(
        Buckets((*sizes, p.new_users), leaks_ms, quiet_ms, p.success_share),
        Buckets((*sizes, 0), leaks_ms, quiet_ms, p.success_share),
        1000 * DAY_S * p.known_days,
        quiet_ms,
    )


class FailedLogin:
    """Leaky buckets over failures, by user and by address (detection.md, part A).

    Failures from an address whose bucket runs over count for the address only. What is left for the user's
    buckets is what no address explains: guessing from many addresses, or from unknown ones. So one attack
    is one alert, and a user whom somebody hammers at is not suspected with every login of their own.

    Parameters
    ----------
    defaults
        Parameters where neither tier nor tenant has others.

    >>> from schemas.parse import parse
    >>> event = (
    ...     '{"kind":"auth","event_id":"%d","tenant_id":"tenant-a","time":"2026-01-01T00:00:0%dZ",'
    ...     '"service":"login","user_id":"ana","source_ip":"192.0.2.7","action":"login","outcome":"failure"}'
    ... )
    >>> batch = parse("auth", [(event % (i, i)).encode() for i in range(7)]).batch
    >>> detector = FailedLogin()
    >>> [alert.summary for alert in detector.fold(batch, detector.new_state())]
    ['6 failed logins from 192.0.2.7 in 5 s, all of ana; last at 00:00:05 UTC']
    """

    name = "failed_login"
    kind: Kind = "auth"

    def __init__(self, defaults: FailedLoginParameters | None = None) -> None:
        chosen = defaults or FailedLoginParameters()

        def derive(tenant: Tenant) -> _Rule:
            return _rule(resolve("failed_login", chosen, tenant))

        self._rules = Rules(derive)

    def new_state(self) -> FailedLoginState:
        """Return the state of a partition of which nothing was seen."""
        return FailedLoginState()

    def fold(self, batch: EventBatch, state: FailedLoginState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember what it taught."""
        rows = np.flatnonzero(batch.mask())
        time_ms = state.clock.read(batch, rows)
        attempts = np.fromiter(map(ATTEMPTS.__contains__, batch.columns["action"]), np.bool_, len(batch))[
            rows
        ]
        fold = _Fold(self._rules, batch, state, rows[attempts], time_ms[attempts])
        fold.run()
        settled_ms = {
            t: state.clock.settled_ms(t) for t in state.open_tenants().intersection(batch.tenant.values)
        }
        alerts = fold.alerts + state.settle(settled_ms)
        state.sweep(max((rule.known_ms for rule in self._rules.distinct), default=0))
        return in_order(alerts)

    def advance(self, state: FailedLoginState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over at the given times by tenant."""
        return in_order(state.settle({t: reached_ms - LATE_MS for t, reached_ms in until_ms.items()}))


class _Fold:
    """The attempts of one batch, as columns ``(n,)`` in order of arrival."""

    def __init__(
        self, rules: Rules[_Rule], batch: EventBatch, state: FailedLoginState, rows: Int64s, time_ms: Int64s
    ) -> None:
        self.state = state
        self.rules = rules.distinct
        self.rule = rules.of(batch)[batch.tenant.codes[rows]]
        self.time_ms = time_ms
        self.share = np.array([rule.by_user.watch_share for rule in self.rules])[self.rule]
        self.failed = batch.failed[rows]
        self.tenants = Tenants(batch, rows)
        self.users = Hashed(taken(batch, "user_id", rows))
        self.addresses = Hashed(taken(batch, "source_ip", rows))
        self.event_ids = taken(batch, "event_id", rows)
        self.reasons = taken(batch, "reason", rows)
        self.alerts: list[Alert] = []

    def run(self) -> None:
        """Fold addresses, then users, then successes: each needs to know of the one before."""
        by_address = [rule.by_address for rule in self.rules]
        by_user = [rule.by_user for rule in self.rules]
        state, looked = self.state, ~self.failed
        by_addresses = self._fill(
            state.addresses, by_address, "source_ip", self.addresses, self.users, self.failed
        )
        unexplained = self.failed & (by_addresses <= 1.0)
        by_users = self._fill(state.users, by_user, "user_id", self.users, self.addresses, unexplained)
        self._succeed(np.where(looked, np.maximum(by_addresses, by_users), 0.0))

    def _fill(
        self,
        rule: BucketRule,
        buckets: Sequence[Buckets],
        entity_type: str,
        who: Hashed,
        values: Hashed,
        counts: Bools,
    ) -> Floats:
        """Return ``(n,)`` how full the fullest bucket of each attempt's key was after it.

        Parameters
        ----------
        rule, buckets
            The keys' state, and what holds for them.
        entity_type, who
            The keys.
        values
            What is counted as new: the users at an address, the addresses at a user.
        counts
            ``(n,)`` the attempts that fill buckets.
        """
        n = len(self.rule)
        known = named(who.values)
        failures = np.flatnonzero(counts & known)
        fullness = np.zeros(n)
        if not len(failures) and not len(rule.keys):
            return fullness
        slot = np.full(n, -1, np.int64)
        parts = (self.tenants, entity_type, who)
        slot[failures] = rule.keys.intern(parts, failures)
        # Successes only look, and only at keys whose buckets could be full enough to matter.
        suspects = rule.suspects(slot[failures], self.time_ms[failures], buckets, self.rule[failures])
        if len(suspects) or (n and int(self.time_ms.min()) <= rule.watched_until_ms):
            looks = np.flatnonzero(~self.failed & known)
            found = rule.keys.find(parts, looks)
            watched = (found >= 0) & (
                (self.time_ms[looks] <= rule.watched_ms[found]) | np.isin(found, suspects)
            )
            slot[looks[watched]] = found[watched]
        rows = np.flatnonzero(slot >= 0)
        picks = rows.tolist()
        events = Events(
            slot[rows],
            self.time_ms[rows],
            self.rule[rows],
            [self.event_ids[i] for i in picks],
            [values.values[i] for i in picks],
            marks=np.array([self.reasons[i] in UNKNOWN_USER for i in picks], np.bool_),
            counts=counts[rows],
            forced=np.zeros(len(rows), np.bool_),
        )
        alerts, fullness[rows] = rule.fold(events, buckets)
        self.alerts.extend(alerts)
        return fullness

    def _succeed(self, fullness: Floats) -> None:
        """Learn from successes where addresses come from, and find those in the middle of guessing."""
        state = self.state
        rows = np.flatnonzero(~self.failed & named(self.users.values))
        if not len(rows):
            return
        slot = state.pairs.intern((self.tenants, self.users, self.addresses), rows)
        state.pair_ms = grown(state.pair_ms, len(state.pairs), NEVER_SUCCEEDED_MS)
        time_ms, rule = self.time_ms[rows], self.rule[rows]
        # A success in the middle of guessing teaches nothing: it may be the guesser's.
        hot = fullness[rows] >= self.share[rows]
        if hot.any():
            known_ms = np.array([r.known_ms for r in self.rules])[rule]
            latest_ms = _latest(slot, np.where(hot, NEVER_SUCCEEDED_MS, time_ms), state.pair_ms)
            found = np.flatnonzero(hot & (latest_ms < time_ms - known_ms))
            self._raise_successes(rows[found], fullness)
        np.maximum.at(state.pair_ms, slot[~hot], time_ms[~hot])

    def _raise_successes(self, rows: Int64s, fullness: Floats) -> None:
        keys: Keys[Key] = Keys()
        slot = keys.intern((self.tenants, "user_id", self.users), rows)
        picks = rows.tolist()
        rules = [self.rules[i] for i in self.rule[rows].tolist()]

        def look(at: int) -> tuple[float, float, Any]:
            return float(fullness[picks[at]]), rules[at].by_user.watch_share, self.addresses.values[picks[at]]

        crossings = Crossings(
            slot,
            keys.names,
            self.time_ms[rows],
            np.array([rule.quiet_ms for rule in rules], np.int64),
            [self.event_ids[i] for i in picks],
            look,
        )
        self.alerts.extend(crossings.fold(self.state.successes, SUCCESS))


def _latest(slot: Int64s, time_ms: Int64s, before_ms: Int64s) -> Int64s:
    """Return ``(n,)`` the largest time of the row's slot up to and including the row, or before the batch."""
    order = by_key(slot)
    starts = starts_of(slot[order])
    latest_ms = np.empty_like(time_ms)
    latest_ms[order] = running_max(time_ms[order], starts, before_ms[slot[order][starts]])
    return latest_ms
