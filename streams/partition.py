"""What a worker remembers of one partition of one kind, and how far it has come."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from detectors.address_credit import AddressCredit
from detectors.admission import Admission
from detectors.registry import Detector, new_detectors
from detectors.snapshot import Frozen, SnapshotError, dumps, freeze, loads, version_of
from schemas.alert import Alert
from schemas.batch import EventBatch, Int64s
from schemas.event import Kind
from store.ownership import Claim, Stored
from store.snapshots import Part
from streams.geography import Locate, locate_with
from streams.idleness import Quiet
from streams.placement import Placement

ADDRESS_CREDIT: Final = "address_credit"
ADMISSION: Final = "admission"
PLACEMENT: Final = "placement"
# Returns which rows of a span of offsets, both ends included, are stored.
ReadBack = Callable[[int, int], Awaitable[Stored | None]]


async def _nothing(first: int, last: int) -> None:
    """Return what is stored where the last owner left nothing."""


@dataclass
class PartitionState:
    """Admission, each detector's state, and where this worker took the partition over.

    Parameters
    ----------
    kind
        Of its events.
    partitions
        Of the topic.
    claim
        Under which rows are stored.
    next_offset
        The first offset that is not in the state.
    stored_end
        Beyond the committed offset, the last owner stored rows with offsets before this one; they are folded,
        and not stored again.
    read_back
        Tells which.
    set_aside
        Offsets of messages that it kept dead letters of.
    locate
        Adds the positions of addresses.
    told
        Kafka has the alerts that the passing of time raised.
    """

    kind: Kind
    partitions: int
    claim: Claim
    next_offset: int = 0
    stored_end: int = 0
    read_back: ReadBack = _nothing
    set_aside: set[int] = field(default_factory=set)
    locate: Locate = field(default_factory=lambda: locate_with(None))
    told: bool = True

    def __post_init__(self) -> None:
        # Committed when the partition was taken over: every row before it is stored.
        self.first_offset = self.next_offset
        # Of the chunk that is handled next.
        self.stored: Stored | None = None
        # Not saved: time begins anew for whoever takes the partition over.
        self._quiet = Quiet()
        self.reset()

    def reset(self) -> None:
        """Forget what the events taught."""
        self.admission = Admission()
        self.placement = Placement(self.partitions)
        self.credit = AddressCredit() if self.kind == "auth" else None
        self.detectors: tuple[tuple[Detector, Any], ...] = tuple(
            (detector, detector.new_state()) for detector in new_detectors()[self.kind]
        )

    async def look_back(self, first: int, last: int) -> None:
        """Find out which rows of the next chunk are stored already; waits for the store where any can be.

        Parameters
        ----------
        first, last
            The chunk's offsets.
        """
        self.stored = await self.read_back(first, last) if first < self.stored_end else None

    def fold(self, batch: EventBatch) -> tuple[list[Alert], dict[str, int]]:
        """Let every detector see the batch; return the alerts, and how many events each was handed.

        A detector counts once it has returned, and by what it was handed, so that the ledger can tell a batch
        that did not reach one.
        """
        self._quiet.hear(batch.tenant.values)
        located = self.locate(batch)
        handed = int(located.mask().sum())
        alerts: list[Alert] = []
        evaluated_by: dict[str, int] = {}
        for detector, state in self.detectors:
            alerts += detector.fold(located, state)
            evaluated_by[detector.name] = handed
        return alerts, evaluated_by

    def unexcused(self, batch: EventBatch) -> Int64s:
        """Return the positions of failed logins to compare across tenants."""
        return np.zeros(0, np.int64) if self.credit is None else self.credit.unexcused(batch)

    def relearn(self, batch: EventBatch) -> None:
        """Fold stored rows, whose alerts were raised when they came."""
        self.admission.remember(batch)
        self.placement.remember(batch)
        self.unexcused(batch)
        self.fold(batch)

    def advance(self, passed_ms: int, is_held: Callable[[str], bool]) -> list[Alert]:
        """Let time pass for quiet tenants.

        Parameters
        ----------
        passed_ms
            How much has passed so far in which nothing waited, as `Idleness.look` counts it.
        is_held
            Whether the directory holds a tenant; the silence of one that has left is no news.
        """
        quiet = self._quiet.until_ms(self.admission.watermark_ms, passed_ms)
        until = {tenant_id: at_ms for tenant_id, at_ms in quiet.items() if is_held(tenant_id)}
        return [alert for detector, state in self.detectors for alert in detector.advance(state, until)]

    def _named(self) -> list[tuple[str, Any]]:
        detectors = [(detector.name, state) for detector, state in self.detectors]
        credit = [] if self.credit is None else [(ADDRESS_CREDIT, self.credit)]
        return [(ADMISSION, self.admission), (PLACEMENT, self.placement), *credit, *detectors]

    def saved(self, next_offset: int) -> None:
        """Nothing waits for a snapshot: what is not in one is read from the store."""

    def freeze(self) -> "FrozenState":
        """Return the state as it is now, for `FrozenState.parts`; to be called between two chunks."""
        return FrozenState([(name, version_of(state), freeze(state)) for name, state in self._named()])

    def restore(self, parts: list[Part]) -> None:
        """Take over a snapshot.

        Raises
        ------
        SnapshotError
            If a part is missing, damaged, or of another format version: the state must be rebuilt.
        """
        found = {part.name: part for part in parts}

        def content(name: str, current: Any) -> bytes:
            part, version = found.get(name), version_of(current)
            if part is None or part.format_version != version:
                has = f"format version {part.format_version}" if part else "nothing"
                raise SnapshotError(f"{name}: the snapshot has {has}, this program reads version {version}")
            return part.state

        admission = loads(Admission, content(ADMISSION, self.admission))
        placement = loads(lambda: Placement(self.partitions), content(PLACEMENT, self.placement))
        self.detectors = tuple(
            (detector, loads(detector.new_state, content(detector.name, state)))
            for detector, state in self.detectors
        )
        if self.credit is not None:
            self.credit = loads(AddressCredit, content(ADDRESS_CREDIT, self.credit))
        self.admission, self.placement = admission, placement


@dataclass(frozen=True, slots=True)
class FrozenState:
    """A partition's state at one moment.

    Parameters
    ----------
    states
        Name, format version and content of each part.
    """

    states: list[tuple[str, int, Frozen]]

    def parts(self) -> list[Part]:
        """Return it as bytes, once: a copy goes when it is written. For a thread, while folding goes on."""
        parts = []
        while self.states:
            name, version, frozen = self.states.pop()
            parts.append(Part(name, version, dumps(frozen)))
        return parts
