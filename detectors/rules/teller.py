"""What alerts of a tenant's own rules look like, in sentences."""

from dataclasses import dataclass

from detectors.episode import Episode, Story
from detectors.rules.compiled import Headline, Window
from detectors.rules.groups import entity_of, rule_of, values_of
from detectors.wording import clock_text, duration_text, plural


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of an episode; the rule itself may be gone by the time the episode is over."""

    headline: Headline
    window: Window | None


class RuleTeller:
    """Names the episodes of a tenant's own rules."""

    detector = "custom_rule"
    # Each story names its rule itself.
    rule = "custom_rule"
    facts = Finding

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        finding: Finding = episode.facts
        headline, window = finding.headline, finding.window
        common = values_of(episode.key)
        who = ", ".join(f"{field} {value}" for field, value in common.items() if field != "tenant_id")
        numbers: dict[str, float | int | str] = {"rule": headline.title, "events": episode.count, **common}
        if window is not None:
            numbers |= {window.type: window.needed, "timespan_s": window.timespan_ms // 1000}
        return Story(
            headline.classification,
            headline.severity,
            f"{headline.title}: {f'{who}, ' if who else ''}{_what(episode.count, window)}; "
            f"last at {clock_text(episode.last_ms)}",
            numbers,
            headline.attack,
            headline.runbook,
            entity=entity_of(episode.key),
            rule=rule_of(episode.key),
        )


def _what(count: int, window: Window | None) -> str:
    if window is None:
        return plural(count, "event")
    noun = {
        "event_count": "events",
        "value_count": f"different {window.field}",
        "temporal": "of its rules",
        "temporal_ordered": "of its rules one after the other",
    }[window.type]
    more = f", and {plural(count - 1, 'event')} more" if count > 1 else ""
    return f"{window.needed:,} {noun} within {duration_text(window.timespan_ms)}{more}"
