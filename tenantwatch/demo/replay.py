"""Sending: the day as fast as it goes, its end and the bursts at an even pace."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from streams.producer import Sender
from tenantwatch.demo.events import Timed
from tenantwatch.demo.probes import Probe

# A burst every 50 ms, and the end of the day in portions of 10 ms.
PROBE_EVERY_S: Final = 0.05
PORTIONS_PER_PROBE: Final = 5


def send(sender: Sender, events: Iterable[Timed]) -> None:
    """Send events as fast as Kafka takes them; all are acknowledged when this returns."""
    _queue(sender, events)
    sender.flush()


def _queue(sender: Sender, events: Iterable[Timed]) -> None:
    for timed in events:
        sender.event(timed.kind, timed.tenant_id, timed.json)


@dataclass(frozen=True)
class Paced:
    """What came of sending at an even pace.

    Parameters
    ----------
    sent_ms
        Address of each burst to when its last event was handed to the producer, milliseconds since 1970.
    events_per_s
        The pace that was kept, bursts included.
    """

    sent_ms: dict[str, int]
    events_per_s: int


def send_paced(sender: Sender, events: Sequence[Timed], probes: Sequence[Probe]) -> Paced:
    """Send events in small portions at an even pace, and a burst with every few of them."""
    sent_ms: dict[str, int] = {}
    portions = len(probes) * PORTIONS_PER_PROBE
    began = time.monotonic()
    for i in range(portions):
        time.sleep(max(0.0, began + i * PROBE_EVERY_S / PORTIONS_PER_PROBE - time.monotonic()))
        _queue(sender, events[len(events) * i // portions : len(events) * (i + 1) // portions])
        if i % PORTIONS_PER_PROBE == 0:
            probe = probes[i // PORTIONS_PER_PROBE]
            _queue(sender, probe.events)
            # Rounded down, as `published_at` is: the difference is right on average.
            sent_ms[probe.source_ip] = time.time_ns() // 1_000_000
        sender.send_queued()
    sender.flush()
    sent = len(events) + sum(len(probe.events) for probe in probes)
    return Paced(sent_ms, round(sent / (time.monotonic() - began)))
