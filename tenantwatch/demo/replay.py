"""Sending: the day as fast as it goes, its end and the bursts at an even pace."""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from streams.producer import Sender
from tenantwatch.demo.events import Timed
from tenantwatch.demo.probes import Probe

# A burst every 50 ms, and the end of the day in portions of 10 ms.
PROBE_EVERY_S: Final = 0.05
PORTIONS_PER_PROBE: Final = 5


def send(sender: Sender, events: Iterable[Timed]) -> None:
    """Send events as fast as Kafka takes them; all are acknowledged when this returns."""
    for timed in events:
        sender.event(timed.kind, timed.tenant_id, timed.json)
    sender.flush()


def send_paced(sender: Sender, events: Sequence[Timed], probes: Sequence[Probe]) -> dict[str, int]:
    """Send events at an even pace, and a burst after every few portions of them.

    Returns
    -------
    dict[str, int]
        Address of each burst to when its last event was handed to the producer, milliseconds since 1970.
    """
    sent_ms: dict[str, int] = {}
    portions = len(probes) * PORTIONS_PER_PROBE
    began = time.monotonic()
    for i in range(portions):
        time.sleep(max(0.0, began + i * PROBE_EVERY_S / PORTIONS_PER_PROBE - time.monotonic()))
        send_now = events[len(events) * i // portions : len(events) * (i + 1) // portions]
        for timed in send_now:
            sender.event(timed.kind, timed.tenant_id, timed.json)
        if i % PORTIONS_PER_PROBE == 0:
            probe = probes[i // PORTIONS_PER_PROBE]
            for timed in probe.events:
                sender.event(timed.kind, timed.tenant_id, timed.json)
            # Rounded down, as `published_at` is: the difference is right on average.
            sent_ms[probe.source_ip] = time.time_ns() // 1_000_000
        sender.flush()
    return sent_ms
