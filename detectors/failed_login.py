"""Failed logins: guessing at one user, spraying over many, and the success that follows."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from detectors.attempts import are_attempts, are_denied, are_with_key
from detectors.bucket_looks import Filled, fullness_at
from detectors.bucket_pass import fold_buckets
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events
from detectors.columns import Hashed, Tenants, among, named, taken, values_at
from detectors.crossings import Crossings
from detectors.episode import in_order
from detectors.episodes import EpisodeRule
from detectors.failed_login_state import FailedLoginRule, FailedLoginState, rule_of
from detectors.guessing import Attempts, GuessingFold
from detectors.keys import Key, Keys, Part
from detectors.networks import network_of
from detectors.parameters import FailedLoginParameters, Rules, budget_share, resolve
from detectors.settling import settle_batch, settle_reached
from detectors.taken_accounts import Taken, tell_taken
from detectors.travel import Logins, fold_travel
from detectors.travel_state import TravelRule
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Floats, Int64s
from schemas.event import Kind
from schemas.tenant import Tenant

UNKNOWN_USER: Final = frozenset({"unknown_user", "invalid_user", "no_such_user", "user_not_found"})


class FailedLogin:
    """Leaky buckets over failures, by user and by address (docs/detection.md, models).

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
    ['5 failed logins from 192.0.2.7 in 4 s, all of ana; last at 00:00:04 UTC']
    """

    name = "failed_login"
    kind: Kind = "auth"

    def __init__(self, defaults: FailedLoginParameters | None = None) -> None:
        chosen = defaults or FailedLoginParameters()

        def derive(tenant: Tenant) -> FailedLoginRule:
            share = budget_share("distributed_guessing", tenant)
            return rule_of(resolve("failed_login", chosen, tenant), share)

        self._rules = Rules(derive)

    def new_state(self) -> FailedLoginState:
        """Return the state of a partition of which nothing was seen."""
        return FailedLoginState()

    def fold(self, batch: EventBatch, state: FailedLoginState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember what it taught."""
        rows = np.flatnonzero(batch.mask())
        time_ms = state.clock.read(batch, rows)
        attempts = are_attempts(batch)[rows]
        alerts: list[Alert] = []
        if attempts.any():
            fold = _Fold(self._rules, batch, state, rows[attempts], time_ms[attempts])
            fold.run()
            alerts += fold.alerts
            if batch.positions is not None:
                alerts += fold.travel(batch, rows[attempts])
        alerts += settle_batch(state.rules(), state.clock, batch)
        state.sweep(max((rule.guessing.known_ms for rule in self._rules.distinct), default=0))
        return in_order(alerts)

    def advance(self, state: FailedLoginState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over at the given times by tenant."""
        return settle_reached(state.rules(), until_ms)


class _Fold:
    """The attempts of one batch, as columns ``(n,)`` in order of arrival."""

    def __init__(
        self,
        rules: Rules[FailedLoginRule],
        batch: EventBatch,
        state: FailedLoginState,
        rows: Int64s,
        time_ms: Int64s,
    ) -> None:
        self.state = state
        self.rules = rules.distinct
        self.rule = rules.of(batch)[batch.tenant.codes[rows]]
        self.time_ms = time_ms
        self.failed = batch.failed[rows]
        self.earliest_ms = int(time_ms.min())
        self.tenant_names, self.codes = batch.tenant.values, batch.tenant.codes[rows]
        self.tenants = Tenants(batch, rows)
        # As a list, of which a few are picked again and again.
        self.users = Hashed(list(taken(batch, "user_id", rows)))
        self.addresses = Hashed(taken(batch, "source_ip", rows))
        self.event_ids = taken(batch, "event_id", rows)
        self.denied = are_denied(batch)[rows]
        self.with_key = are_with_key(batch)[rows]
        self.user_unknown = self.failed & among(batch.columns["reason"], UNKNOWN_USER)[rows]
        # Whether somebody wants to know of every success how full the buckets were.
        self.watched = state.successes.watch is not None or state.approvals.watch is not None
        self.alerts: list[Alert] = []

    def run(self) -> None:
        """Fold challenges, addresses, users, then the tenant: each needs to know of the one before."""
        guessing = GuessingFold(
            self.state.guessing,
            [rule.guessing for rule in self.rules],
            Attempts(
                self.tenant_names,
                self.codes,
                self.time_ms,
                self.rule,
                self.failed,
                self.user_unknown,
                self.with_key,
                (self.tenants, self.users, self.addresses),
                self.event_ids,
            ),
        )
        self.stranger, self.login = guessing.stranger, guessing.login
        by_challenges, fullness = self._fill_all(guessing.away)
        shares = [rule.by_user.watch_share for rule in self.rules]
        worn_down = ~self.failed & (by_challenges >= 1.0)
        guessed = ~self.failed & ~self.with_key & named(self.users.values)
        guessed &= fullness >= np.array(shares)[self.rule]
        explained = np.maximum(fullness, by_challenges) > 1.0
        self.alerts.extend(guessing.run(explained=explained, hot=worn_down | guessed))
        enough = [1.0] * len(self.rules)
        self._raise_successes(self.state.approvals, ~self.failed, worn_down, by_challenges, enough)
        after_guesses = np.zeros(len(self.rule), np.bool_)
        after_guesses[guessing.suspicious] = True
        after_guesses &= ~worn_down
        strange = ~self.failed & guessing.away & ~worn_down & ~self.with_key
        strange[guessing.taken] = False
        self._raise_successes(self.state.successes, strange, after_guesses, fullness, shares)
        self._raise_taken([row for row in guessing.taken if not worn_down[row]], guessing.at_ms)

    def _fill_all(self, away: Bools) -> tuple[Floats, Floats]:
        """Fill the buckets of challenges, addresses, networks and users, each with what none before explains.

        Parameters
        ----------
        away
            ``(n,)`` attempts of users from where they never logged in.

        Returns
        -------
        by_challenges, fullness
            ``(n,)`` how full the user's bucket of challenges was, and the fullest of all the others.
        """
        state, rules = self.state, self.rules
        by_challenges = self._fill(
            state.challenges,
            [rule.by_challenge for rule in rules],
            "user_id",
            self.users,
            self.addresses,
            self.denied.nonzero()[0],
        )
        failures = (self.failed & (by_challenges <= 1.0)).nonzero()[0]
        by_address, by_user = [rule.by_address for rule in rules], [rule.by_user for rule in rules]
        by_addresses = self._fill(
            state.addresses, by_address, "source_ip", self.addresses, self.users, failures
        )
        unexplained = failures[by_addresses[failures] <= 1.0]
        apart = away | ~named(self.addresses.values)
        by_networks = self._fill_networks(unexplained[apart[unexplained]])
        unexplained = unexplained[by_networks[unexplained] <= 1.0]
        by_users = self._fill(state.users, by_user, "user_id", self.users, self.addresses, unexplained)
        return by_challenges, np.maximum(np.maximum(by_addresses, by_networks), by_users)

    def travel(self, batch: EventBatch, rows: Int64s) -> list[Alert]:
        """Return what comes of how far apart users log in.

        Parameters
        ----------
        batch
            With positions.
        rows
            ``(n,)`` where the attempts are in it.
        """
        assert batch.positions is not None
        positions = batch.positions[rows].astype(np.float64)
        on = np.array([rule.travel is not None for rule in self.rules], np.bool_)[self.rule]
        named_ones = named(self.users.values) & named(self.addresses.values)
        chosen = (on & ~self.failed & named_ones & ~np.isnan(positions).any(axis=1)).nonzero()[0]
        if not len(chosen):
            return []
        logins = Logins(
            values_at(self.tenants.values, chosen),
            values_at(self.users.values, chosen),
            values_at(self.addresses.values, chosen),
            values_at(taken(batch, "user_agent", rows), chosen),
            values_at(self.event_ids, chosen),
            self.time_ms[chosen],
            self.rule[chosen],
            positions[chosen],
        )
        rules = [rule.travel or TravelRule(0, 0, 0, 0) for rule in self.rules]
        return fold_travel(self.state.travel, logins, rules)

    def _fill(
        self,
        state: BucketState,
        rules: Sequence[Buckets],
        entity_type: str,
        who: Hashed,
        values: Hashed,
        failures: Int64s,
    ) -> Floats:
        """Fill buckets; return ``(n,)`` how full the fullest one of each attempt's key was after it.

        Parameters
        ----------
        state, rules
            The keys' state, and what holds for them.
        entity_type, who
            The keys.
        values
            What is counted as new: the users at an address, the addresses at a user.
        failures
            ``(f,)`` the attempts that fill buckets, as far as they have a key.
        """
        fullness = np.zeros(len(self.rule))
        failures = failures[named(values_at(who.values, failures))]
        parts = (self.tenants, entity_type, who)
        slot, good = state.keys.intern(parts, failures), None
        if rules[0].successes and len(state.keys):
            logins = self.login.nonzero()[0]
            good = state.take_good(slot, failures, state.keys.find(parts, logins), logins)
        if not len(failures) and (not len(state.keys) or self._may_pass_over(state)):
            return fullness
        filled = self._fold(state, rules, slot, values, failures, good)
        fullness[failures] = filled.fullness
        least = min(buckets.watch_share for buckets in rules)
        if filled.fullness.max(initial=0.0) < least and self._may_pass_over(state):
            return fullness
        # Successes only look, and only at keys whose buckets could be full enough to matter.
        looks = (~self.failed).nonzero()[0]
        slot = state.keys.find(parts, looks)
        matters = (self.time_ms[looks] <= state.watched_ms[slot]) | filled.touched[slot] | self.watched
        looks, slot = looks[matters & (slot >= 0)], slot[matters & (slot >= 0)]
        met = filled.met(state, slot, np.searchsorted(failures, looks))
        fullness[looks] = fullness_at(rules, self.rule[looks], self.time_ms[looks], *met)
        return fullness

    def _may_pass_over(self, state: BucketState) -> bool:
        """Whether no success need look at buckets that were not filled just now."""
        return self.earliest_ms > state.watched_until_ms and not self.watched

    def _fill_networks(self, failures: Int64s) -> Floats:
        """Count the strangers of each network, and each tenant's users who fail without an address.

        Parameters
        ----------
        failures
            ``(f,)`` the attempts that fill buckets.

        Returns
        -------
        fullness
            ``(n,)`` how full the bucket was after each failure.
        """
        fullness, state = np.zeros(len(self.rule)), self.state.networks
        slot = state.keys.intern(*self._networks(failures))
        if not len(state.keys):
            return fullness
        logins = self.login.nonzero()[0]
        good = state.take_good(slot, failures, state.keys.find(*self._networks(logins)), logins)
        if len(failures):
            rules = [rule.by_network for rule in self.rules]
            fullness[failures] = self._fold(state, rules, slot, self.users, failures, good).fullness
        return fullness

    def _fold(
        self,
        state: BucketState,
        rules: Sequence[Buckets],
        slot: Int64s,
        values: Hashed,
        failures: Int64s,
        good: Int64s | None,
    ) -> Filled:
        """Fold failures into the buckets of their keys, by number; as for `_fill`."""
        events = Events(
            slot,
            self.time_ms[failures],
            self.rule[failures],
            values_at(self.event_ids, failures),
            values_at(values.values, failures),
            marks=self.user_unknown[failures],
            forced=np.zeros(len(failures), np.bool_),
            strange=self.stranger[failures] if rules[0].strange else None,
            good=good,
        )
        alerts, filled = fold_buckets(state, events, rules)
        self.alerts.extend(alerts)
        return filled

    def _networks(self, rows: Int64s) -> tuple[tuple[Part, ...], Int64s]:
        """Return keys of the networks of some rows, as columns of their own, and their positions.

        Rows without an address, of which nobody knows how many networks they come from, are the tenant's.
        """
        addresses, tenants = (values_at(who.values, rows) for who in (self.addresses, self.tenants))
        networks = [
            network_of(address) if address else tenant
            for address, tenant in zip(addresses, tenants, strict=True)
        ]
        entity_type: Part = "source_network"
        if None in addresses:
            entity_type = Hashed(["source_network" if address else "tenant_id" for address in addresses])
        return (Hashed(tenants), entity_type, Hashed(networks)), np.arange(len(rows))

    def _raise_successes(
        self, rule: EpisodeRule, tested: Bools, found: Bools, fullness: Floats, shares: Sequence[float]
    ) -> None:
        """Show how suspicious users' logins were, and raise alerts of some.

        Parameters
        ----------
        rule
            With their episodes.
        tested, found
            ``(n,)`` the successes to show to whoever listens, and those that alarm, all of them of a user.
        fullness, shares
            ``(n,)`` how full the fullest bucket was, and from when on that is enough, by the tenant's rule.
        """
        shown = tested & named(self.users.values) if rule.watch is not None else np.zeros_like(tested)
        rows = (found | shown).nonzero()[0]
        if not len(rows):
            return
        keys: Keys[Key] = Keys()
        slot = keys.intern((self.tenants, "user_id", self.users), rows)
        time_ms, scores = self.time_ms[rows], fullness[rows]
        thresholds = np.array(shares)[self.rule[rows]]
        ids = values_at(self.event_ids, rows)
        if rule.watch is not None:
            at = shown[rows].nonzero()[0]
            rule.watch.see(
                keys,
                slot[at],
                time_ms[at],
                values_at(ids, at),
                lambda which: (scores[at[which]], thresholds[at[which]]),
            )
        high = found[rows].nonzero()[0]
        if not len(high):
            return
        picks, numbers = rows[high].tolist(), self.rule[rows[high]].tolist()
        crossings = Crossings(
            slot[high],
            keys,
            time_ms[high],
            np.array([self.rules[i].quiet_ms for i in numbers], np.int64),
            values_at(ids, high),
            scores[high],
            thresholds[high],
            lambda i: self.addresses.values[picks[i]],
        )
        self.alerts.extend(crossings.fold(rule))

    def _raise_taken(self, rows: list[int], at_ms: Int64s) -> None:
        """Raise alerts of tenants into whose accounts somebody got in the middle of guessing."""
        logins = [
            Taken(
                self.tenant_names[int(self.codes[row])],
                int(at_ms[row]),
                self.event_ids[row],
                self.users.values[row],
                self.addresses.values[row],
                self.rules[int(self.rule[row])].quiet_ms,
            )
            for row in rows
        ]
        self.alerts.extend(tell_taken(self.state.taken, logins))
