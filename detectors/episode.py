"""One episode, what a rule says about it, and the alert that both make."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from detectors.keys import Key
from schemas.alert import MAX_EVIDENCE_IDS, Alert, Entity, EntityType, Evidence, Severity, alert_id, from_ms

Status = Literal["open", "updated", "resolved"]


@dataclass(frozen=True, slots=True)
class Story:
    """What a rule has to say about an episode as it stands.

    Parameters
    ----------
    classification, severity, summary, attack, runbook
        As in the alert.
    numbers
        Evidence beside the score.
    entity, rule
        Whom the alert is about and which rule it is of, where episodes' keys and the teller do not say it.
    """

    classification: str
    severity: Severity
    summary: str
    numbers: dict[str, float | int | str]
    attack: tuple[str, ...]
    runbook: str
    entity: Entity | None = None
    rule: str | None = None


@dataclass(slots=True)
class Episode:
    """One alert in the making.

    Parameters
    ----------
    key
        Tenant, and type and value of the entity that the alert is about.
    first_ms, last_ms, detected_ms
        Event times of the first event, of the latest, and of the one that crossed the threshold.
    quiet_ms
        The episode is over at ``last_ms + quiet_ms``.
    count, event_ids
        The events, and the first of their ids.
    score, threshold
        The highest of all events so far, and what it is measured against.
    grade
        How grave the gravest event is by itself, from 0 on; a graver one is worth a revision at once.
    facts
        What else the rule gathers.
    """

    key: Key
    first_ms: int
    last_ms: int
    detected_ms: int
    quiet_ms: int
    facts: Any
    count: int = 0
    score: float = 0.0
    threshold: float = 0.0
    grade: int = 0
    revision: int = 0
    event_ids: list[str] = field(default_factory=list)

    @property
    def due_ms(self) -> int:
        """The time from which the next event belongs to another episode."""
        return self.last_ms + self.quiet_ms

    def extend(self, event_ids: Sequence[str], last_ms: int) -> None:
        """Count events, the last of them at `last_ms`."""
        self.count += len(event_ids)
        self.last_ms = last_ms
        missing = MAX_EVIDENCE_IDS - len(self.event_ids)
        if missing > 0:
            self.event_ids.extend(event_ids[:missing])


class Teller(Protocol):
    """A rule: it names its episodes.

    Attributes
    ----------
    facts
        The type of the episodes' `facts`.
    """

    detector: str
    rule: str
    facts: Any

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""


def alert_of(teller: Teller, episode: Episode, status: Status) -> Alert:
    """Return the next revision of an episode's alert."""
    story = teller.tell(episode)
    episode.revision += 1
    tenant_id = episode.key[0]
    entity = story.entity or Entity(type=cast(EntityType, episode.key[1]), value=episode.key[2])
    return Alert(
        alert_id=alert_id(teller.detector, story.rule or teller.rule, tenant_id, entity, episode.first_ms),
        revision=episode.revision,
        status=status,
        detector=teller.detector,
        classification=story.classification,
        severity=story.severity,
        tenant_id=tenant_id,
        entity=entity,
        first_time=from_ms(episode.first_ms),
        last_time=from_ms(episode.last_ms),
        event_count=episode.count,
        score=round(episode.score, 2),
        threshold=round(episode.threshold, 2),
        summary=story.summary,
        evidence=Evidence(numbers=story.numbers, event_ids=list(episode.event_ids)),
        attack=list(story.attack),
        runbook=story.runbook,
        detected_at=from_ms(episode.detected_ms),
        published_at=None,
    )


def in_order(alerts: list[Alert]) -> list[Alert]:
    """Return alerts in an order that depends on nothing but themselves."""
    return sorted(alerts, key=lambda alert: (alert.last_time, alert.alert_id, alert.revision))
