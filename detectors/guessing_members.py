"""The failures that belong to an alarm, and the episode that they make."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from detectors.episode import Episode
from detectors.episodes import EpisodeRule
from detectors.failed_login_stories import GuessingFacts
from detectors.guessing_pressure import Recent, Verdict
from detectors.keys import Key
from schemas.alert import Alert


class Member(NamedTuple):
    """A failure within an alarm.

    Parameters
    ----------
    tenant_id, event
        Whose, and which.
    quiet_ms, threshold
        After which quiet the alarm is over, and what its score is measured against.
    led, verdict
        What led to the alarm, the failure included, and what that comes to, where this failure raised it.
    """

    tenant_id: str
    event: Recent
    quiet_ms: int
    threshold: float
    led: Sequence[Recent]
    verdict: Verdict | None


class Members:
    """Failures within alarms, by tenant, in order of arrival."""

    grades = None

    def __init__(self) -> None:
        self.times: list[int] = []
        self.event_ids: list[str] = []
        self._members: list[Member] = []

    def add(self, member: Member) -> None:
        """Add one; those of a tenant come together."""
        self.times.append(member.event[0])
        self.event_ids.append(member.event[1])
        self._members.append(member)

    def fold(self, rule: EpisodeRule) -> list[Alert]:
        """Return the revisions that they give rise to."""
        alerts: list[Alert] = []
        rows, at = range(len(self._members)), 0
        for tenant_id, mine in groupby(self._members, key=lambda member: member.tenant_id):
            stop = at + sum(1 for _ in mine)
            key = (tenant_id, "tenant_id", tenant_id)
            while at < stop:
                told, at = rule.episodes.follow(rule.teller, self, key, at, stop, rows)
                alerts.extend(told)
        return alerts

    def begin(self, key: Key, at: int) -> Episode:
        """Return the episode that a failure opens."""
        member = self._members[at]
        facts = GuessingFacts()
        if member.verdict is not None:
            facts.expected = round(member.verdict.expected, 4)
            facts.window_s = (member.event[0] - member.verdict.since_ms) // 1000 + 1
        _add(facts, member.led)
        last_ms = member.event[0]
        episode = Episode(key, member.led[0][0], last_ms, last_ms, member.quiet_ms, facts=facts)
        episode.extend([event[1] for event in member.led], last_ms)
        return episode

    def gather(self, episode: Episode, start: int, stop: int) -> None:
        """Tally failures of an episode."""
        _add(episode.facts, [member.event for member in self._members[start:stop]])

    def measure(self, episode: Episode, start: int, stop: int) -> None:
        """Take the score of the failure that raised the alarm."""
        for member in self._members[start:stop]:
            score = member.threshold if member.verdict is None else member.verdict.score
            if score >= episode.score:
                episode.score, episode.threshold = score, member.threshold


def _add(facts: GuessingFacts, events: Sequence[Recent]) -> None:
    facts.users.add([event[2] for event in events], [event[3] for event in events])
    facts.addresses.add([event[4] for event in events], [False] * len(events))
