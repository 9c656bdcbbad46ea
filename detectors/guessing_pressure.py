"""How hard a tenant's doors are tried: one number for each failure that nobody's habit explains."""

from collections import Counter
from dataclasses import dataclass, field
from math import log
from typing import Final, NamedTuple

from detectors.clock import MINUTE_MS
from detectors.networks import network_of, place_of
from detectors.surprise import LN_10, count_surprise

# Of the windows, in minutes: a script's burst up to a day of low and slow.
WINDOWS: Final = (1, 15, 240, 1_440)
# What is known of a tenant before anything is: half a failure in 50 minutes, or in 50 logins.
PRIOR_FAILURES: Final = 0.5
PRIOR_EXPOSURE: Final = 50.0
# Of ten failures of people one comes from a place that is new to them.
PRIOR_FAMILIAR: Final = 5.0
# What was learned fades within a week.
FORGET: Final = 1 / 10_080
# Nobody's habits are steadier than this: counts vary by a third from day to day however long one watches.
MAX_SHAPE: Final = 8.0
# The CUSUM is tuned to a rate five times the usual, for as long as it takes (Page's test for Poisson counts).
RATIO: Final = 5.0
LN_RATIO: Final = log(RATIO)
# Four windows and the CUSUM, each of them put to the test every minute.
TESTS_A_WEEK: Final = (len(WINDOWS) + 1) * 10_080
# One network, or one user, is for its own buckets to tell of, however quiet the tenant.
MIN_DIFFERENT: Final = 2
# Within an alarm failures are learned up to so many times the usual rate.
MAX_LEARNED: Final = 1.5
# An alarm outlasts so many times the gap between its failures; so do suspicions of logins, a minute at least.
GAPS: Final = 4
# Where more logins of known users than that come from new places, being new is nothing to suspect.
USUAL_SHARE: Final = 0.05
# Users and places of an alarm's failures that are kept in mind.
MAX_TRIED: Final = 512
# What led up to an alarm, and an episode starts with.
MAX_RECENT: Final = 32
NEVER_MIN: Final = -1

# Time, event id, user, whether the user is unknown, and address.
Recent = tuple[int, str, str | None, bool, str | None]
# Logins and familiar failures in the current window of each length.
InWindows = tuple[tuple[int, int], ...]


class Exposure(NamedTuple):
    """What explains failures, since the failure before.

    Parameters
    ----------
    logins, newcomers
        Logins, and those of them of known users from new places.
    familiar
        Failures of users from where they often log in.
    """

    logins: int
    newcomers: int
    familiar: int


class Verdict(NamedTuple):
    """What one failure comes to.

    Parameters
    ----------
    score
        Decades of surprise.
    since_ms
        From when on the failures count that made it so surprising.
    expected, failures
        Failures expected in that time, and those that there were.
    """

    score: float
    since_ms: int
    expected: float
    failures: int


@dataclass(slots=True)
class Pressure:
    """What is remembered of the failures of one tenant.

    Parameters
    ----------
    failures, minutes, logins, familiar
        Failures learned, in how many minutes, and beside how many logins and familiar failures.
    newcomers
        Those of the logins that came from new places.
    minute
        Up to which minute they have faded.
    window, count
        The current window of each length, by number, and the failures in it.
    drift
        The CUSUM, in nats, since when it was above zero, and how many failures made it so.
    last_ms
        Time of the latest failure.
    until_ms
        An alarm is open until then.
    tried
        Users and places of the failures since an alarm was raised.
    gap_ms, quiet_ms
        Between failures of an alarm, smoothed; and after which quiet it is over.
    recent
        The latest failures.
    """

    failures: float = PRIOR_FAILURES
    minutes: float = PRIOR_EXPOSURE
    logins: float = PRIOR_EXPOSURE
    familiar: float = PRIOR_FAMILIAR
    newcomers: float = 0.0
    minute: int = NEVER_MIN
    window: list[int] = field(default_factory=lambda: [NEVER_MIN] * len(WINDOWS))
    count: list[int] = field(default_factory=lambda: [0] * len(WINDOWS))
    drift: float = 0.0
    drift_ms: int = 0
    drifted: int = 0
    last_ms: int = 0
    until_ms: int = 0
    tried: set[str] = field(default_factory=set)
    gap_ms: int = 0
    quiet_ms: int = 0
    recent: list[Recent] = field(default_factory=list)

    def meet(self, event: Recent, exposure: Exposure, in_windows: InWindows) -> Verdict:
        """Count a failure outside an alarm, weigh it, and learn from it.

        Three explanations are given their chance, and the best one counts: that it is as many as the time
        brings at this tenant, as many as so many logins bring, and as many as so many failures from familiar
        places bring. So neither a Monday morning, nor a new office, nor the day on which all passwords end is
        an attack, and neither are the scanners of a quiet night.

        Parameters
        ----------
        event
            The failure; times never run backwards.
        exposure
            Since the failure before.
        in_windows
            ``(4, 2)`` logins and familiar failures in the current window of each length.
        """
        time_ms = event[0]
        if self.until_ms:
            # An alarm is over, and what it counted with it.
            self.drift, self.until_ms = 0.0, 0
        self._fade(time_ms // MINUTE_MS, exposure)
        by_time = self.failures / self.minutes
        by_others = self.failures / self.logins, self.failures / self.familiar
        best = self._drift(
            time_ms, by_time, max(by_others[0] * exposure.logins, by_others[1] * exposure.familiar)
        )
        shape = min(self.failures, MAX_SHAPE)
        for i, minutes in enumerate(WINDOWS):
            number = time_ms // (MINUTE_MS * minutes)
            self.count[i] = self.count[i] + 1 if number == self.window[i] else 1
            self.window[i] = number
            if self.count[i] < MIN_DIFFERENT:
                continue
            expected = by_time * minutes
            for counts, w in zip(in_windows[i:], WINDOWS[i:], strict=True):
                # At a window's begin the longer ones know better what is usual now.
                expected = max(
                    expected, *(each * n * minutes / w for each, n in zip(by_others, counts, strict=True))
                )
            score = count_surprise(self.count[i], shape, expected)
            if score > best.score:
                best = Verdict(score, number * MINUTE_MS * minutes, expected, self.count[i])
        self.failures += 1
        self.last_ms = time_ms
        self.recent.append(event)
        del self.recent[:-MAX_RECENT]
        return best

    def _drift(self, time_ms: int, by_time: float, by_others: float) -> Verdict:
        if self.drift <= 0.0 or not self.last_ms:
            self.drift_ms = time_ms
        expected = max(by_time * (time_ms - self.last_ms) / MINUTE_MS, by_others) if self.last_ms else 0.0
        left = self.drift - (RATIO - 1) * expected
        if left <= 0.0:
            self.drift_ms, self.drifted = time_ms, 0
        self.drifted += 1
        self.drift = max(0.0, left) + LN_RATIO
        usual = by_time * max(time_ms - self.drift_ms, MINUTE_MS) / MINUTE_MS
        return Verdict(self.drift / LN_10, self.drift_ms, usual, self.drifted)

    def led_to(self, verdict: Verdict, threshold: float) -> list[Recent]:
        """Return the failures that made for a verdict; none where it is for other buckets to tell of.

        A network's failures count twice at most: a spray from one address, on a morning on which some people
        mistype elsewhere, is that address's.
        """
        led = [event for event in self.recent if event[0] >= verdict.since_ms]
        # Where it is not said who or from where, guesses would never be told of if that were one user, or one
        # network. So without an address each minute is a network: within one it may be a passing scanner's,
        # and is for the tenant's bucket of such failures. Without a user each address is one.
        by_network = Counter(
            network_of(address) if address else str(time_ms // MINUTE_MS) for time_ms, *_, address in led
        )
        users = {address if user is None else user for _, _, user, _, address in led}
        if min(len(users), len(by_network)) < MIN_DIFFERENT:
            return []
        # Where not all of them are remembered, the others are taken to be alike.
        counted = (
            sum(min(count, MIN_DIFFERENT) for count in by_network.values()) * verdict.failures // len(led)
        )
        shape = min(self.failures, MAX_SHAPE)
        return led if count_surprise(counted, shape, verdict.expected) > threshold else []

    def suspects(self, time_ms: int, user: str, place: str | None, *, known: bool) -> bool:
        """Whether a login from a new place at that time may be the guessers'."""
        if time_ms >= min(self.until_ms, self.last_ms + max(GAPS * self.gap_ms, MINUTE_MS)):
            return False
        # Somebody who was never here before is new in every respect.
        unusual = known and self.newcomers < USUAL_SHARE * self.logins
        return unusual or user in self.tried or place in self.tried

    def raise_alarm(self, led: list[Recent], threshold: float, quiet_ms: int) -> None:
        """Open an alarm, given what led to it; what was counted is used up by it."""
        time_ms = led[-1][0]
        self.gap_ms = (time_ms - led[0][0]) // len(led)
        self.quiet_ms = max(quiet_ms, GAPS * self.gap_ms)
        self.recent, self.tried = [], set()
        for event in led:
            self._try(event)
        self.count = [0] * len(WINDOWS)
        self.drift = threshold * LN_10
        self._hold(time_ms)

    def _try(self, event: Recent) -> None:
        if len(self.tried) < MAX_TRIED:
            user, address = event[2], event[4]
            self.tried.update(name for name in (user, address and place_of(address)) if name is not None)

    def go_on(self, event: Recent, threshold: float, exposure: Exposure) -> None:
        """Count a failure within an alarm, and learn from it not much more than the usual.

        An attack does not become usual, however long it takes, and what is usual from now on does in the end.
        """
        time_ms = event[0]
        self._try(event)
        self._fade(time_ms // MINUTE_MS, exposure)
        usual = self.failures / self.minutes * (time_ms - self.last_ms) / MINUTE_MS
        self.failures += min(1.0, MAX_LEARNED * usual)
        self.gap_ms = (self.gap_ms + time_ms - self.last_ms) // 2
        self.drift = min(max(self.drift - (RATIO - 1) * usual, 0.0) + LN_RATIO, threshold * LN_10)
        self._hold(time_ms)

    def _hold(self, time_ms: int) -> None:
        """Keep the alarm open until the usual rate alone would have worn it down, or it is quiet."""
        rate = (RATIO - 1) * self.failures / self.minutes
        self.last_ms = time_ms
        self.until_ms = time_ms + min(self.quiet_ms, int(MINUTE_MS * self.drift / rate))

    def _fade(self, minute: int, exposure: Exposure) -> None:
        """Let time pass: what was learned fades towards what is known of anybody."""
        passed = minute - self.minute if self.minute != NEVER_MIN else 0
        left = (1 - FORGET) ** passed
        self.failures = self.failures * left + PRIOR_FAILURES * (1 - left)
        self.minutes = self.minutes * left + (1 / FORGET + PRIOR_EXPOSURE) * (1 - left)
        self.logins = self.logins * left + PRIOR_EXPOSURE * (1 - left) + exposure.logins
        self.familiar = self.familiar * left + PRIOR_FAMILIAR * (1 - left) + exposure.familiar
        self.newcomers = self.newcomers * left + exposure.newcomers
        self.minute = minute
