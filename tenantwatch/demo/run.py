"""The demo from its start to its outcome."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Final

from schemas.alert import Alert
from streams.producer import Sender
from tenantwatch.demo.events import Timed
from tenantwatch.demo.organizations import FREE
from tenantwatch.demo.outcome import Outcome
from tenantwatch.demo.pipeline import ChildPipeline, DemoError
from tenantwatch.demo.probes import PROBE_TENANT, PROBES, closing_event, probes
from tenantwatch.demo.receiver import Receiver
from tenantwatch.demo.replay import send, send_paced
from tenantwatch.demo.scenario import Scenario, scenario
from tenantwatch.demo.verdict import judge

# Shown while something takes a while; ends when the block does.
Step = Callable[[str], AbstractContextManager[None]]

# The end of the day is kept for the latency measurement: at most 1,000 events/s of it.
PACED_SHARE: Final = 20
PACED_EVENTS: Final = 5_000
# Without any progress for so long, what is missing will not come.
PATIENCE_S: Final = 30.0
# Each look is a query that the worker answers beside its work.
POLL_S: Final = 0.1
PLATFORM_PATH: Final = "/platform"
TENANT_PATH: Final = f"/{FREE}"
MAX_REVISIONS: Final = 10_000


def run_demo(pipeline: ChildPipeline, receiver: Receiver, seed: int, count: int, step: Step) -> Outcome:
    """Run the demo on a pipeline that is starting.

    Parameters
    ----------
    seed, count
        As `scenario` takes them.

    Raises
    ------
    DemoError, ControlError, SendError
        If something does not answer.
    """
    began, began_at = time.monotonic(), datetime.now(UTC)
    with step(f"making up a day of {count:,} events"):
        planned, bursts = scenario(seed, count), probes(seed)
    first = " (downloading Apache Kafka first, 45 MB, only this time)" if pipeline.downloads else ""
    with step(f"starting Kafka, ClickHouse's engine and a worker{first}"):
        pipeline.wait_ready()
    with Sender(pipeline.status["kafka"]) as sender:
        with step("applying the tenants and two webhooks"):
            _prepare(pipeline, receiver, sender, planned)
        paced = min(PACED_EVENTS, len(planned.events) // PACED_SHARE)
        fast, end = planned.events[:-paced], planned.events[-paced:]
        with step(f"replaying {len(fast):,} events as fast as it goes"):
            events_per_s = _replay(pipeline, sender, fast)
        with step(f"measuring latency with {PROBES} bursts, while the last {paced:,} events come evenly"):
            live = send_paced(sender, end, bursts)
            send(sender, [closing_event(seed)])
    sent = len(planned.events) + sum(len(burst.events) for burst in bursts) + 1
    with step("waiting for the last row, alert and webhook"):
        revisions = _settle(pipeline, receiver, sent, began_at)
    counts = pipeline.get("/counts")
    return Outcome(
        judge(planned.attacks, bursts, revisions, live.sent_ms),
        seed=seed,
        events_sent=sent,
        events_stored=sum(row["events"] for row in counts),
        events_per_s=events_per_s,
        paced_per_s=live.events_per_s,
        probes=len(bursts),
        flagged=sum(row["flagged"] for row in counts),
        webhooks_expected=_due(revisions),
        webhooks_verified=receiver.count,
        webhooks_refused=receiver.refused,
        webhooks_misdirected=sum(alert.tenant_id != FREE for alert in receiver.received(TENANT_PATH)),
        delivered=frozenset(alert.alert_id for alert in receiver.received(PLATFORM_PATH)),
        seconds=time.monotonic() - began,
    )


def _prepare(pipeline: ChildPipeline, receiver: Receiver, sender: Sender, planned: Scenario) -> None:
    """Add tenants and webhooks; events and webhooks of tenants that the worker does not know are refused."""
    tenants = [*planned.tenants, PROBE_TENANT]
    sender.tenants(tenants)
    sender.flush()
    deadline = time.monotonic() + PATIENCE_S
    while len(pipeline.get("/tenants")) < len(tenants):
        if time.monotonic() > deadline:
            raise DemoError(f"the worker does not know the tenants after {PATIENCE_S:.0f} s")
        time.sleep(POLL_S)
    for tenant_id, path, description in (
        ("", PLATFORM_PATH, "Demo: every tenant's alerts"),
        (FREE, TENANT_PATH, "Demo: its own alerts only"),
    ):
        receiver.secrets[path] = pipeline.add_webhook(tenant_id, receiver.url(path), description)


def _replay(pipeline: ChildPipeline, sender: Sender, events: Sequence[Timed]) -> int:
    """Send events and wait until all are stored; return how many that were a second."""
    began = time.monotonic()
    send(sender, events)
    _until_still(lambda: ((stored := pipeline.stored()), stored >= len(events)))
    return round(len(events) / (time.monotonic() - began))


def _settle(pipeline: ChildPipeline, receiver: Receiver, sent: int, began_at: datetime) -> list[Alert]:
    """Wait until every row is stored and every alert delivered; return every revision."""
    revisions: list[Alert] = []

    def look() -> tuple[object, bool]:
        rows = pipeline.get("/revisions", published_after=began_at.isoformat(), limit=MAX_REVISIONS)
        revisions[:] = map(Alert.model_validate, rows)
        now = (pipeline.stored(), pipeline.published(), len(revisions), receiver.count)
        return now, now == (sent, len(revisions), len(revisions), _due(revisions))

    _until_still(look)
    return revisions


def _due(revisions: Sequence[Alert]) -> int:
    """Return how many webhook messages revisions cause: one to the platform, and one to the tenant's own."""
    return len(revisions) + sum(alert.tenant_id == FREE for alert in revisions)


def _until_still(look: Callable[[], tuple[object, bool]]) -> None:
    """Look again until it is done, or nothing has moved for a while: the outcome tells what is missing."""
    seen, done = look()
    moved_at = time.monotonic()
    while not done and time.monotonic() < moved_at + PATIENCE_S:
        time.sleep(POLL_S)
        before = seen
        seen, done = look()
        if seen != before:
            moved_at = time.monotonic()
