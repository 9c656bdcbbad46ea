"""Telling that episodes are over, once nothing can come that would belong to them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from detectors.clock import LATE_MS, Clock
from detectors.episode import in_order
from detectors.episodes import Episodes
from schemas.alert import Alert
from schemas.batch import EventBatch


class Rule(Protocol):
    """What has episodes."""

    @property
    def episodes(self) -> Episodes:
        """The open ones."""

    def settle(self, tenant_id: str, settled_ms: int) -> list[Alert]:
        """Return the last revision of the tenant's episodes that are over."""


def settle_batch(rules: Sequence[Rule], clock: Clock, batch: EventBatch) -> list[Alert]:
    """Return the last revisions of what is over for the tenants whose clocks a batch moved."""
    alerts: list[Alert] = []
    for rule in rules:
        for tenant_id in rule.episodes.open.keys() & batch.tenant.values:
            alerts.extend(rule.settle(tenant_id, clock.settled_ms(tenant_id)))
    return alerts


def settle_reached(rules: Sequence[Rule], until_ms: Mapping[str, int]) -> list[Alert]:
    """Return, in order, the last revisions of what is over at the times that tenants must have reached.

    Tenants' clocks do not move: events that come late all the same are no less welcome.
    """
    alerts: list[Alert] = []
    for rule in rules:
        for tenant_id in rule.episodes.open.keys() & until_ms.keys():
            alerts.extend(rule.settle(tenant_id, until_ms[tenant_id] - LATE_MS))
    return in_order(alerts)
