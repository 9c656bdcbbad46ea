"""Backtest: what the detectors would have said about events in a file, without Kafka or a store."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from pydantic_core import from_json

from detectors.admission import Admission
from detectors.registry import new_detectors
from schemas.alert import Alert
from schemas.batch import FLAGS
from schemas.event import KINDS, Kind
from schemas.parse import parse
from schemas.tenant import Tenant, unknown_tenant

# Large enough for columns to pay, small enough that their objects die young.
LINES_PER_BATCH: Final = 5_000
_KIND: Final = re.compile(rb'"kind"\s*:\s*"(auth|access|request)"')
_BY_NAME: Final[dict[object, Kind]] = {kind: kind for kind in KINDS}
_BY_BYTES: Final[dict[bytes, Kind]] = {kind.encode(): kind for kind in KINDS}


class RejectedLine(NamedTuple):
    """A line, or an event of its array, that is no event.

    Parameters
    ----------
    line
        Its number, from 1.
    reason, detail
        As in a dead letter: a word to group by; which field, what was found, how to fix it.
    """

    line: int
    reason: str
    detail: str


@dataclass
class BacktestResult:
    """What a backtest found.

    Parameters
    ----------
    alerts
        The last revision of each alert, in order of detection; episodes that reach the file's end stay open.
    events
        Good events by kind.
    not_evaluated
        How many of them detectors did not look at, by reason (`late`, `duplicate`).
    rejected
        Lines that are no events.
    """

    alerts: list[Alert] = field(default_factory=list)
    events: Counter[Kind] = field(default_factory=Counter)
    not_evaluated: Counter[str] = field(default_factory=Counter)
    rejected: list[RejectedLine] = field(default_factory=list)


def kind_of(line: bytes) -> Kind | None:
    """Return the kind that a line names, parsing it only where a glance does not tell.

    >>> kind_of(b'{"attributes":{"kind":"access"},"kind":"auth"}'), kind_of(b"[]")
    ('auth', None)
    """
    glances = _KIND.findall(line)
    if len(glances) == 1:
        return _BY_BYTES[glances[0]]
    try:
        event = from_json(line)
    except ValueError:
        return None
    if isinstance(event, list):
        event = event[0] if event else None
    word = event.get("kind") if isinstance(event, dict) else None
    return _BY_NAME.get(word) if isinstance(word, str) else None


def _batches(lines: Iterable[bytes], result: BacktestResult) -> Iterator[tuple[Kind, list[int], list[bytes]]]:
    """Group lines by kind, keeping their order within each; what names no kind is rejected."""
    numbers: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
    values: dict[Kind, list[bytes]] = {kind: [] for kind in KINDS}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        kind = kind_of(text)
        if kind is None:
            detail = "kind: none found; fix: send a JSON object with `kind` auth, access or request"
            result.rejected.append(RejectedLine(number, "invalid_event", detail))
            continue
        numbers[kind].append(number)
        values[kind].append(text)
        if len(values[kind]) >= LINES_PER_BATCH:
            yield kind, numbers[kind], values[kind]
            numbers[kind], values[kind] = [], []
    for kind in KINDS:
        if values[kind]:
            yield kind, numbers[kind], values[kind]


def backtest(lines: Iterable[bytes], tenants: Mapping[str, Tenant] | None = None) -> BacktestResult:
    """Run the detectors over events in a file, as the worker would over one partition.

    There is no clock: nothing is too far in the future, and episodes that are open at the end stay so.

    Parameters
    ----------
    lines
        Newline-delimited JSON: an event, or an array of events of one kind, on each line.
    tenants
        Tenant to settings; defaults for those not named.

    >>> backtest([b'{"kind":"auth"}', b"no event"]).events.total()
    0
    """
    result = BacktestResult()
    known = dict(tenants or {})
    detectors = new_detectors()
    states = {kind: [detector.new_state() for detector in of_kind] for kind, of_kind in detectors.items()}
    admissions = {kind: Admission() for kind in KINDS}
    last: dict[str, Alert] = {}
    for kind, numbers, values in _batches(lines, result):
        parsed = parse(kind, values)
        for bad in parsed.rejections:
            result.rejected.append(RejectedLine(numbers[bad.record], bad.reason, bad.detail))
        for tenant_id in parsed.batch.tenant.values:
            if tenant_id not in known:
                known[tenant_id] = unknown_tenant(tenant_id)
        settings = tuple(known[tenant_id] for tenant_id in parsed.batch.tenant.values)
        batch = admissions[kind].admit(replace(parsed.batch, tenants=settings))
        result.events[kind] += len(batch)
        if batch.flags is not None:
            for name, bit in FLAGS.items():
                result.not_evaluated[name] += int(np.count_nonzero(batch.flags & bit))
        for detector, state in zip(detectors[kind], states[kind], strict=True):
            for alert in detector.fold(batch, state):
                last[alert.alert_id] = alert
    result.not_evaluated += Counter()  # drops the reasons that did not occur
    result.rejected.sort()
    result.alerts = sorted(last.values(), key=lambda alert: (alert.detected_at, alert.alert_id))
    return result
