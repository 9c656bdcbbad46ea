"""Two sets of alerts side by side: what other settings gain and lose."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, NamedTuple

from schemas.alert import Alert

_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


class Comparison(NamedTuple):
    """What became of the alerts.

    Parameters
    ----------
    gained
        Alerts that only the changed settings give.
    lost
        Alerts that only the current ones give.
    kept
        How many of the current alerts the changed settings give too.
    """

    gained: list[Alert]
    lost: list[Alert]
    kept: int


def compare(current: Sequence[Alert], changed: Sequence[Alert]) -> Comparison:
    """Compare the alerts that the same events give under two sets of settings.

    Two alerts are the same where detector, tenant, classification and entity are, and the episodes overlap.
    Not by `alert_id`: that depends on an episode's first event, which a threshold moves.

    Parameters
    ----------
    current, changed
        The last revision of each alert.
    """
    lost, gained = _without(current, changed), _without(changed, current)
    return Comparison(gained, lost, len(current) - len(lost))


def _identity(alert: Alert) -> tuple[str, ...]:
    entity = alert.entity
    return alert.detector, alert.tenant_id, alert.classification, entity.type, entity.value


def _end(alert: Alert) -> datetime:
    # Of an episode that is still open, only the events up to its last revision are told.
    return alert.last_time if alert.status == "resolved" else _END_OF_TIME


class _Episodes:
    """The episodes of one identity, to be asked for one that overlaps."""

    def __init__(self, alerts: Iterable[Alert]) -> None:
        ordered = sorted(alerts, key=lambda alert: alert.first_time)
        self._starts = [alert.first_time for alert in ordered]
        self._reach = list(accumulate(map(_end, ordered), max))

    def overlap(self, alert: Alert) -> bool:
        begun = bisect_right(self._starts, _end(alert))
        return begun > 0 and self._reach[begun - 1] >= alert.first_time


def _without(alerts: Sequence[Alert], others: Iterable[Alert]) -> list[Alert]:
    by_identity: dict[tuple[str, ...], list[Alert]] = defaultdict(list)
    for other in others:
        by_identity[_identity(other)].append(other)
    episodes = {identity: _Episodes(found) for identity, found in by_identity.items()}
    nobody = _Episodes(())
    return [alert for alert in alerts if not episodes.get(_identity(alert), nobody).overlap(alert)]
