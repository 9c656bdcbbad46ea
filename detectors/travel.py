"""Impossible travel: a login too far from the one before, and too soon after it, for one person.

Addresses are known to be somewhere only where an operator gave a file of them; without it nothing is
remembered. A login counts if its network and its device are new to the user as well: a proxy or a phone's
carrier moves people about as well, and those they use again and again. Where no
device is named, nothing is known of it: then the network decides.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from detectors.clock import HOUR_MS
from detectors.columns import Hashed, named
from detectors.crossings import Crossings
from detectors.failed_login_stories import Journey
from detectors.features import user_agent_family
from detectors.keys import Key, Keys
from detectors.networks import wide_network_of
from detectors.pairs import LONG_AGO_MS
from detectors.segments import by_key, running_max, starts_of
from detectors.travel_state import TravelRule, TravelState
from schemas.alert import Alert
from schemas.batch import Bools, Floats, Int64s

# Two logins in the same minute are as good as at once: clocks differ by seconds.
LEAST_MS: Final = 60_000
EARTH_KM: Final = 6_371.0


class Logins(NamedTuple):
    """Logins of users from addresses that are known to be somewhere, as columns ``(n,)`` in order of arrival.

    Parameters
    ----------
    tenants, users, addresses, user_agents, event_ids
        As in the events.
    time_ms, rule
        Event times; number of the rule that holds.
    positions
        ``(n, 2)`` latitude and longitude, in degrees.
    """

    tenants: Sequence[str]
    users: Sequence[str]
    addresses: Sequence[str]
    user_agents: Sequence[str | None]
    event_ids: Sequence[str]
    time_ms: Int64s
    rule: Int64s
    positions: Floats


def distance_km(here: Floats, there: Floats) -> Floats:
    """Return ``(n,)`` distances on a sphere of positions ``(n, 2)`` in degrees (the haversine formula).

    >>> berlin, sydney = np.array([[52.5, 13.4]]), np.array([[-33.9, 151.2]])
    >>> distance_km(berlin, sydney).round(-2).tolist()
    [16100.0]
    """
    a, b = np.radians(here), np.radians(there)
    half = np.sin((b - a) / 2) ** 2
    chord = half[:, 0] + np.cos(a[:, 0]) * np.cos(b[:, 0]) * half[:, 1]
    found: Floats = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0)))
    return found


def fold_travel(state: TravelState, logins: Logins, rules: Sequence[TravelRule]) -> list[Alert]:
    """Return revisions of what logins give rise to, and remember where people are."""
    return _Fold(state, logins, rules).run()


class _Fold:
    """The logins of a batch, sorted by user."""

    def __init__(self, state: TravelState, logins: Logins, rules: Sequence[TravelRule]) -> None:
        self.state, self.logins, self.rules = state, logins, rules
        rows = np.arange(len(logins.time_ms))
        tenants, users = Hashed(logins.tenants), Hashed(logins.users)
        networks = Hashed([wide_network_of(address) for address in logins.addresses])
        devices = Hashed([user_agent_family(agent) if agent else "" for agent in logins.user_agents])
        slot = state.users.intern((tenants, users), rows)
        habits = [
            state.habits.intern((tenants, kind, users, values), rows)
            for kind, values in (("network", networks), ("device", devices))
        ]
        state.reserve()
        self.order = order = by_key(slot)
        self.starts = starts_of(slot[order])
        self.slot = slot[order][self.starts]
        self.network, self.device = (habit[order] for habit in habits)
        self.named = named(logins.user_agents)[order]
        self.rule = logins.rule[order]
        self.positions = logins.positions[order]
        self.at_ms = running_max(logins.time_ms[order], self.starts, state.seen_ms[self.slot])
        self.scores = np.zeros(len(order))
        self.found: list[int] = []
        self.journeys: dict[int, Journey] = {}

    def run(self) -> list[Alert]:
        """Teach what is calm at once, and go through the others' logins one by one."""
        stops = np.append(self.starts[1:], len(self.order))
        calm = self._calm()
        for start, stop, slot in zip(self.starts.tolist(), stops.tolist(), self.slot.tolist(), strict=True):
            if not calm[start:stop].all():
                calm[start:stop] = False
                self._follow(start, stop, slot)
        self._teach(calm, stops)
        self.state.seen_ms[self.slot] = self.at_ms[stops - 1]
        self._show()
        return self._tell()

    def _calm(self) -> Bools:
        """Return ``(n,)`` which logins are not too far from the one before; mostly all."""
        before, before_ms = np.roll(self.positions, 1, axis=0), np.roll(self.at_ms, 1)
        before[self.starts] = self.state.positions[self.slot]
        before_ms[self.starts] = self.state.at_ms[self.slot]
        km = distance_km(before, self.positions)
        speed = km * HOUR_MS / np.maximum(self.at_ms - before_ms, LEAST_MS)
        far, fast = (np.array([rule[i] for rule in self.rules])[self.rule] for i in range(2))
        known = before_ms > LONG_AGO_MS
        self.scores = np.where(known & (km > far), np.minimum(speed, fast), 0.0)
        calm: Bools = ~(known & (km > far) & (speed > fast))
        return calm

    def _follow(self, start: int, stop: int, slot: int) -> None:
        """Go through one user's logins; a suspicious one teaches nothing."""
        state = self.state
        for at in range(start, stop):
            rule, time_ms = self.rules[int(self.rule[at])], int(self.at_ms[at])
            last_ms = int(state.at_ms[slot])
            network, device = int(self.network[at]), int(self.device[at])
            since_ms = time_ms - rule.known_ms
            self.scores[at] = 0.0
            if last_ms > LONG_AGO_MS and max(state.met_ms[network], state.met_ms[device]) < since_ms:
                here, there = state.positions[slot][None], self.positions[at][None]
                km = float(distance_km(here, there)[0])
                speed = km * HOUR_MS / max(time_ms - last_ms, LEAST_MS)
                self.scores[at] = speed if km > rule.least_km else 0.0
                if self.scores[at] > rule.most_kmh:
                    row = int(self.order[at])
                    self.found.append(row)
                    self.journeys[row] = Journey(
                        self.logins.addresses[row],
                        round(km),
                        (time_ms - last_ms) // 1000,
                        round(speed),
                        rule.most_kmh,
                    )
                    continue
            state.positions[slot], state.at_ms[slot] = self.positions[at], time_ms
            state.met_ms[network] = time_ms
            if self.named[at]:
                state.met_ms[device] = time_ms

    def _teach(self, calm: Bools, stops: Int64s) -> None:
        state = self.state
        for habit, taught in ((self.network, calm), (self.device, calm & self.named)):
            np.maximum.at(state.met_ms, habit[taught], self.at_ms[taught])
        last = stops - 1
        which = calm[last]
        state.positions[self.slot[which]] = self.positions[last[which]]
        state.at_ms[self.slot[which]] = self.at_ms[last[which]]

    def _tell(self) -> list[Alert]:
        if not self.found:
            return []
        rows = np.array(sorted(self.found), np.int64)
        keys, picks = Keys[Key](), rows.tolist()
        slot = keys.intern((Hashed(self.logins.tenants), "user_id", Hashed(self.logins.users)), rows)
        at_ms = np.empty_like(self.at_ms)
        at_ms[self.order] = self.at_ms

        found = [self.journeys[row] for row in picks]
        quiet_ms = np.array([self.rules[i].quiet_ms for i in self.logins.rule[rows].tolist()], np.int64)
        ids = [self.logins.event_ids[i] for i in picks]
        speeds = np.array([journey.speed_kmh for journey in found], np.float64)
        most = np.array([journey.most_kmh for journey in found], np.float64)
        crossings = Crossings(slot, keys, at_ms[rows], quiet_ms, ids, speeds, most, found.__getitem__)
        return crossings.fold(self.state.journeys)

    def _show(self) -> None:
        """Show how fast people would have had to travel."""
        watch = self.state.journeys.watch
        if watch is None:
            return
        keys = Keys[Key]()
        parts = (Hashed(self.logins.tenants), "user_id", Hashed(self.logins.users))
        slot = keys.intern(parts, np.arange(len(self.order)))[self.order]
        most = np.array([rule.most_kmh for rule in self.rules], np.float64)[self.rule]
        ids = [self.logins.event_ids[i] for i in self.order.tolist()]
        watch.see(keys, slot, self.at_ms, ids, lambda at: (self.scores[at], most[at]))
