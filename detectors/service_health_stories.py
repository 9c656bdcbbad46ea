"""What a service that is not well looks like, in sentences."""

from typing import Final, NamedTuple

from detectors.episode import Episode, Story
from detectors.wording import clock_text, duration_text, plural

DETECTOR: Final = "service_health"
# From here on somebody should look now.
HIGH_SHARE: Final = 0.5
HIGH_RATIO: Final = 10.0
MEDIUM_DURATION_RATIO: Final = 3.0


def _whom(episode: Episode) -> str:
    return f"route {episode.key[2]}" if episode.key[1] == "http_route" else "all routes together"


def _span(episode: Episode) -> str:
    return f"in {plural(episode.count, 'minute')}, last at {clock_text(episode.last_ms)}"


class Share(NamedTuple):
    """Requests of ten minutes that were bad, all of them, and the usual share."""

    bad: int
    requests: int
    usual: float


class _ShareTeller:
    """Tells of a share of requests that is too large."""

    detector = DETECTOR
    facts = Share

    def __init__(self, rule: str, classification: str, word: str, runbook: str) -> None:
        self.rule, self._classification = rule, classification
        self._word, self._runbook = word, runbook

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        found: Share = episode.facts
        share = found.bad / found.requests
        return Story(
            self._classification,
            "high" if episode.grade else "medium",
            f"{share:.0%} of the requests to {_whom(episode)} {self._word} ({found.bad:,} of "
            f"{found.requests:,} in ten minutes), usually {found.usual:.1%}; {_span(episode)}",
            {
                "minutes": episode.count,
                self.rule: found.bad,
                "requests": found.requests,
                "share": round(share, 4),
                "usual_share": round(found.usual, 4),
            },
            ("T1499",),
            self._runbook,
        )


def error_teller() -> _ShareTeller:
    """Return who tells of requests that fail."""
    return _ShareTeller(
        "errors",
        "error_burst",
        "failed",
        "Look at the service's own log at these times, and at what was deployed or changed just before. If "
        "one user or address makes most of the failing requests, slow that one down.",
    )


def slow_teller() -> _ShareTeller:
    """Return who tells of requests that take long."""
    return _ShareTeller(
        "slow",
        "slow_requests",
        "were slow",
        "Look at what the route waits for: its database, other services, a queue. Compare the number of "
        "requests with the usual one: if it is higher, find out who sends them.",
    )


class Volume(NamedTuple):
    """Requests of a minute, how many are usual then, and the most so far at this time of day."""

    requests: int
    usual: float
    most: float

    @property
    def ratio(self) -> float:
        """How many times the most so far."""
        return self.requests / max(self.most, 1.0)


class VolumeTeller:
    """Tells of far more requests than ever."""

    detector = DETECTOR
    rule = "volume"
    facts = Volume

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        found: Volume = episode.facts
        return Story(
            "volume_anomaly",
            "high" if episode.grade else "medium",
            f"{found.requests:,} requests a minute to {_whom(episode)}, {found.ratio:,.0f} times the most so "
            f"far at this time of day; {_span(episode)}",
            {
                "minutes": episode.count,
                "requests": found.requests,
                "usual_requests": round(found.usual, 2),
                "most_requests": round(found.most, 2),
            },
            ("T1498", "T1499"),
            "Find out who sends them: few users or addresses can be limited or blocked. If it is a launch or "
            "a new customer, check that there is capacity enough; it will be usual after some days.",
        )


class Shift(NamedTuple):
    """Mean duration of a minute's requests, the usual one, and how many there were."""

    duration_ms: float
    usual_ms: float
    requests: int

    @property
    def ratio(self) -> float:
        """How many times the usual one."""
        return self.duration_ms / self.usual_ms


class ShiftTeller:
    """Tells of requests that take longer than they used to."""

    detector = DETECTOR
    rule = "duration"
    facts = Shift

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        found: Shift = episode.facts
        return Story(
            "level_shift",
            "medium" if episode.grade else "low",
            f"Requests to {_whom(episode)} take {found.ratio:.1f} times as long as usual "
            f"({found.duration_ms:,.0f} instead of {found.usual_ms:,.0f} ms) and keep doing so; "
            f"{_span(episode)}",
            {
                "minutes": episode.count,
                "requests": found.requests,
                "duration_ms": round(found.duration_ms, 1),
                "usual_duration_ms": round(found.usual_ms, 1),
            },
            ("T1499", "T1496"),
            "Look at what was deployed or changed when it began, and at what else runs on the same machines. "
            "If it is to stay so, nothing need be done: it becomes the usual.",
        )


def is_grave(rule: str, facts: Share | Volume | Shift) -> bool:
    """Say whether a minute by itself makes an episode one degree more severe.

    >>> is_grave("errors", Share(20, 40, 0.01)), is_grave("slow", Share(20, 40, 0.01))
    (True, False)
    """
    if isinstance(facts, Volume):
        return facts.ratio >= HIGH_RATIO
    if isinstance(facts, Shift):
        return facts.ratio >= MEDIUM_DURATION_RATIO
    return rule == "errors" and facts.bad / facts.requests >= HIGH_SHARE


class Silence(NamedTuple):
    """Requests that were expected since the last one, and in an hour; when they came again, 0: not yet."""

    expected: float
    hourly: float
    resumed_ms: int


class SilenceTeller:
    """Tells of requests that stay away."""

    detector = DETECTOR
    rule = "silence"
    facts = Silence

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        found: Silence = episode.facts
        if found.resumed_ms:
            gap = duration_text(found.resumed_ms - episode.last_ms)
            how_long = f"for {gap} until {clock_text(found.resumed_ms)}"
        else:
            how_long = f"since {clock_text(episode.last_ms)}"
        return Story(
            "silence",
            "high" if episode.key[1] == "tenant_id" else "medium",
            f"Not one request to {_whom(episode)} {how_long}, where {found.expected:,.0f} were expected by "
            f"{clock_text(episode.detected_ms)}",
            {"expected_requests": round(found.expected, 1), "hourly_requests": round(found.hourly, 1)},
            ("T1489", "T1562"),
            "Check that the service runs and that its events still reach Kafka: a service that is down and a "
            "trail that was cut off look the same from here.",
        )
