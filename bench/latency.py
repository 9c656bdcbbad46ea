"""Latency at a steady rate: event sent -> alert on ``audit.alerts``, and -> webhook received.

Kafka, the worker (with the engine) and the traffic are processes of their own; this process receives. The
newest event that an alert's first revision names crossed the threshold, and its id says when it was sent, by
the same clock. CPU time is the worker's, the engine's threads included. Writes ``build/latency.json``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import numpy as np
import psutil
from confluent_kafka import Consumer, TopicPartition

from bench.running import REPOSITORY, RunningWorker, broker, kafka, machine, worker, write
from bench.steady import ATTACK
from streams.topics import ALERTS, ensure_topics
from tenantwatch.demo.receiver import Receiver

# Alerts that are still on their way when the traffic ends.
DRAIN_S: Final = 3.0
NS_PER_MS: Final = 1_000_000


class Arrivals:
    """When each planted attack's first alert arrived, by the attack's number.

    Attributes
    ----------
    sent_ns, arrived_ns
        Wall clock.
    others
        Alert revisions that no planted attack explains.
    """

    def __init__(self) -> None:
        self.sent_ns: dict[int, int] = {}
        self.arrived_ns: dict[int, int] = {}
        self.tenant_ids: dict[int, str] = {}
        self.others = 0

    def take(self, alert: Mapping[str, Any], now_ns: int) -> None:
        """Note an alert revision."""
        named = [
            tuple(map(int, event_id.removeprefix(ATTACK).split("-")))
            for event_id in alert["evidence"]["event_ids"]
            if event_id.startswith(ATTACK)
        ]
        if not named:
            self.others += 1
            return
        sent_ns, number = max((sent_ns, number) for number, sent_ns in named)
        if number not in self.sent_ns:
            self.sent_ns[number], self.arrived_ns[number] = sent_ns, now_ns
            self.tenant_ids[number] = alert["tenant_id"]

    def delays_ms(self, begin_ns: int, end_ns: int, tenant_ids: Iterable[str] | None = None) -> list[float]:
        """Return the delays of what was sent in an interval, for some tenants or for all."""
        chosen = None if tenant_ids is None else set(tenant_ids)
        return [
            (self.arrived_ns[number] - sent_ns) / NS_PER_MS
            for number, sent_ns in self.sent_ns.items()
            if begin_ns <= sent_ns < end_ns and (chosen is None or self.tenant_ids[number] in chosen)
        ]


def summary(delays_ms: list[float]) -> dict[str, float]:
    """Return quantiles in milliseconds."""
    if not delays_ms:
        return {"n": 0}
    p50, p99 = np.percentile(delays_ms, (50, 99))
    return {
        "n": len(delays_ms),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(max(delays_ms), 1),
    }


@contextmanager
def alert_arrivals(bootstrap: str) -> Iterator[Arrivals]:
    """Read ``audit.alerts`` from its end while the block runs."""
    arrivals, stopping = Arrivals(), Event()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-latency",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    partitions = ensure_topics(bootstrap).partitions
    ends = [consumer.get_watermark_offsets(TopicPartition(ALERTS, p))[1] for p in range(partitions)]
    consumer.assign([TopicPartition(ALERTS, p, end) for p, end in enumerate(ends)])

    def read() -> None:
        while not stopping.is_set():
            message = consumer.poll(0.2)
            now_ns = time.time_ns()
            if message is not None and not message.error():
                arrivals.take(json.loads(message.value() or b""), now_ns)

    thread = Thread(target=read)
    thread.start()
    try:
        yield arrivals
    finally:
        stopping.set()
        thread.join()
        consumer.close()


class TimedReceiver(Receiver):
    """The demo's webhook receiver, which verifies signatures; notes when messages came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Arrivals()

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Note the moment, then verify."""
        now_ns = time.time_ns()
        status = super().take(path, headers, body)
        if status == 204:
            self.arrivals.take(json.loads(body)["data"], now_ns)
        return status


@contextmanager
def traffic(bootstrap: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `bench.steady` in a process of its own."""
    command = [sys.executable, "-m", "bench.steady", bootstrap]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def measure(rate: float, given: argparse.Namespace) -> dict[str, Any]:
    """Measure at one rate, with a Kafka and a worker of its own."""
    receiver = TimedReceiver()
    with (
        kafka(given.partitions) as (bootstrap, root),
        worker(bootstrap, root / "worker", **dict(given.setting)) as ours,
        receiver,
        alert_arrivals(bootstrap) as alerts,
    ):
        new = {"tenant_id": "", "url": receiver.url("/"), "description": "bench"}
        receiver.secrets["/"] = ours.request("POST", "/webhooks", json=new)["secret"]
        options = {"tenants": given.tenants, "users": given.users, "attacks_per_s": given.attacks_per_s}
        with traffic(bootstrap, rate=rate, seconds=given.warmup + given.seconds, **options) as sending:
            time.sleep(given.warmup)
            beside = {"kafka": broker(), "traffic": psutil.Process(sending.pid), "this": psutil.Process()}
            used = usage(ours, given.seconds, beside)
            begin_ns, end_ns = used.pop("begin_ns"), used.pop("end_ns")
            out, _ = sending.communicate()
            sent = json.loads(out)
        time.sleep(DRAIN_S)
        planted = sent["attacks"]
        return {
            "rate": rate,
            "partitions": given.partitions,
            "seconds": given.seconds,
            "produce_to_alert": summary(alerts.delays_ms(begin_ns, end_ns)),
            "produce_to_webhook": summary(receiver.arrivals.delays_ms(begin_ns, end_ns)),
            **used,
            "traffic": sent,
            # An attack that begins in the last moments has no crossing event yet.
            "attacks_without_alert": planted - len(alerts.arrived_ns),
            "other_alert_revisions": alerts.others,
            "webhooks_refused": receiver.refused,
        }


def usage(ours: RunningWorker, seconds: float, beside: Mapping[str, psutil.Process]) -> dict[str, Any]:
    """Return what the worker, and what runs beside it, use while some time passes."""
    begin_ns, began, stored = time.time_ns(), time.perf_counter(), ours.stored()
    cpu_s, threads, stages = ours.cpu_s(), ours.cpu_by_thread_s(), ours.stage_s()
    others_s = {name: sum(process.cpu_times()[:2]) for name, process in beside.items()}
    time.sleep(seconds)
    cpu_s, took_s, stored = ours.cpu_s() - cpu_s, time.perf_counter() - began, ours.stored() - stored
    after_s, threads_after = ours.stage_s(), ours.cpu_by_thread_s()
    threads_after.subtract(threads)
    others_s = {name: sum(process.cpu_times()[:2]) - others_s[name] for name, process in beside.items()}
    return {
        "begin_ns": begin_ns,
        "end_ns": time.time_ns(),
        "events_per_s": round(stored / took_s),
        "cpu_percent_of_a_core": round(100 * cpu_s / took_s, 1),
        "cpu_percent_by_thread": {
            name: round(100 * spent / took_s, 1)
            for name, spent in threads_after.most_common()
            if spent > took_s / 1000
        },
        "cpu_percent_beside": {name: round(100 * spent / took_s, 1) for name, spent in others_s.items()},
        "stage_us_per_event": {
            stage: round((spent - stages.get(stage, 0)) / max(stored, 1) * 1e6, 1)
            for stage, spent in after_s.items()
        },
        "rss_mb": round(ours.rss_mb()),
    }


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def main() -> None:
    """Measure at each rate and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=[5_000, 50_000], help="events a second")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--warmup", type=float, default=10, help="seconds that are not counted")
    parser.add_argument("--attacks-per-s", type=float, default=1)
    parser.add_argument("--tenants", type=int, default=300)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument(
        "--setting", action="append", default=[], type=_setting, help="of the worker, e.g. insert_wait_ms=500"
    )
    parser.add_argument("--out", type=Path, default=Path("build/latency.json"))
    given = parser.parse_args()
    here = machine()
    write({"machine": here, "runs": [measure(rate, given) for rate in given.rate]}, given.out)


if __name__ == "__main__":
    main()
