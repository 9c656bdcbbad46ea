# mypy: ignore-errors
# Bytewax is installed for the benchmark only, in an environment of its own.
"""J1 and J2 in Bytewax: ``python -m bench.peer_bytewax BOOTSTRAP DIRECTORY [CLICKHOUSE_URL]``; J2 with a URL.

As its documentation has it: a Kafka source, stateful operators by key, a recovery store in place of offsets
in Kafka. Batches of the source are validated in one call (`flat_map_batch`), which is its own advice for
throughput; only failures go through the stateful operator, where each item costs most.
"""

import sys
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

from bench.peer_event import ALERTS, TOPICS, Stopwatch, Store, alert_of, count_failure, decode

BATCH = 20_000


class _Rows(StatelessSinkPartition):
    def __init__(self, store: Store) -> None:
        self._store = store

    def write_batch(self, items) -> None:
        self._store.insert(items)


class StoreSink(DynamicSink):
    """Inserts what a batch of the source became: at least once, as Bytewax has it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def build(self, step_id, worker_index, worker_count) -> _Rows:
        return _Rows(self._store)


def main() -> None:
    """Run until the end of the topics."""
    bootstrap, directory = sys.argv[1:3]
    store = Store(sys.argv[3], bootstrap) if len(sys.argv) > 3 else None
    watch = Stopwatch()

    def validate(messages):
        watch.count(len(messages))
        events = [decode(message.value) for message in messages]
        return events if store else [event for event in events if event.outcome == "failure"]

    def count(state, event):
        state, alert = count_failure(state, event.time.timestamp())
        watch.alerts += alert
        return state, [KafkaSinkMessage(event.tenant_id.encode(), alert_of(event))] if alert else []

    flow = Dataflow("bench")
    source = KafkaSource([bootstrap], TOPICS, tail=False, batch_size=BATCH)
    events = op.flat_map_batch("validate", op.input("events", flow, source), validate)
    failures = events
    if store:
        op.output("store", events, StoreSink(store))
        failures = op.filter("failures", events, lambda event: event.outcome == "failure")
    by_user = op.key_on("by_user", failures, lambda event: f"{event.tenant_id}/{event.user_id}")
    alerts = op.key_rm("alerts", op.stateful_flat_map("count", by_user, count))
    op.output("publish", alerts, KafkaSink([bootstrap], ALERTS))
    recovery = Path(directory) / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    cluster_main(flow, [], 0, recovery_config=RecoveryConfig(str(recovery)))
    print(watch.result(), flush=True)


if __name__ == "__main__":
    main()
