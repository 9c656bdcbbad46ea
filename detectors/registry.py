"""Which detectors there are, and what they have in common."""

from collections.abc import Mapping
from typing import Any, Protocol

from detectors.access_anomaly import AccessAnomaly
from detectors.custom_rule import CustomRule
from detectors.failed_login import FailedLogin
from detectors.rate_breach import RateBreach
from detectors.service_health import ServiceHealth
from schemas.alert import Alert
from schemas.batch import EventBatch
from schemas.event import KINDS, Kind


class Detector(Protocol):
    """A pure function of batch and state, to alerts.

    The same stream gives the same alerts however it is cut into batches. A batch is never changed.

    Attributes
    ----------
    name
        As in the alert, and in a tenant's ``detectors``.
    kind
        The kind of events that it looks at.
    """

    @property
    def name(self) -> str:
        """As in the alert's ``detector``."""

    @property
    def kind(self) -> Kind:
        """The kind of event it looks at."""

    def new_state(self) -> Any:
        """Return the state of a Kafka partition of which nothing was seen: arrays, dicts, lists."""

    def fold(self, batch: EventBatch, state: Any) -> list[Alert]:
        """Return the revisions that a batch gives rise to, in a fixed order, and change the state."""

    def advance(self, state: Any, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return what the passing of time tells of tenants of which no event comes.

        These are the last revisions of episodes that are over, and silences; all as a later event would bring
        them about.

        Parameters
        ----------
        state
            As `fold` left it.
        until_ms
            Tenant to the event time that it must have reached by now, going by the wall clock.
        """


def new_detectors() -> dict[Kind, tuple[Detector, ...]]:
    """Return every detector, with default parameters, by the kind of event that it looks at.

    >>> [detector.name for detector in new_detectors()["auth"]]
    ['failed_login', 'custom_rule']
    """
    detectors: tuple[Detector, ...] = (
        FailedLogin(),
        AccessAnomaly(),
        RateBreach(),
        ServiceHealth(),
        *map(CustomRule, KINDS),
    )
    return {kind: tuple(d for d in detectors if d.kind == kind) for kind in KINDS}
