# mypy: ignore-errors
# Quix Streams is installed for the benchmark only, in an environment of its own.
"""J1 and J2 in Quix Streams: ``python -m bench.peer_quix BOOTSTRAP DIRECTORY GOAL [CLICKHOUSE_URL]``.

As its documentation has it: a deserializer of one's own that validates, stateful `apply` keyed by the message
key with RocksDB and a changelog topic behind it, a sink that is flushed at each checkpoint. Its own tumbling
windows count by message key, which is the tenant, and grouping by user would send every event through Kafka
once more; so the window of each user is kept in state, which is faster.
"""

import sys

from quixstreams import Application
from quixstreams.models.serializers import Deserializer
from quixstreams.sinks.base import BaseSink

from bench.peer_event import ALERTS, TOPICS, Stopwatch, Store, alert_of, count_failure, decode

COMMIT_EVERY = 50_000


class Validated(Deserializer):
    """Bytes to a validated event."""

    def __call__(self, value, ctx):
        return decode(value)


class StoreSink(BaseSink):
    """Inserts at each checkpoint, all partitions at once."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._rows = []

    def add(self, value, key, timestamp, headers, topic, partition, offset) -> None:
        self._rows.append(value)

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        self._store.insert(rows)


def main() -> None:
    """Run until the goal is reached and committed."""
    bootstrap, directory, goal = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sink = StoreSink(Store(sys.argv[4], bootstrap)) if len(sys.argv) > 4 else None
    watch = Stopwatch()

    def processed(topic, partition, offset) -> None:
        watch.count(1)
        if watch.events >= goal:
            app.stop()

    app = Application(
        bootstrap,
        consumer_group="bench-quix-j2" if sink else "bench-quix-j1",
        auto_offset_reset="earliest",
        commit_every=COMMIT_EVERY,
        state_dir=directory,
        on_message_processed=processed,
        loglevel="ERROR",
    )

    def failures(event, state):
        at, alert = count_failure(state.get(event.user_id), event.time.timestamp())
        state.set(event.user_id, at)
        watch.alerts += alert
        return alert_of(event) if alert else None

    alerts = app.topic(ALERTS, value_serializer="bytes")
    for name in TOPICS:
        events = app.dataframe(app.topic(name, value_deserializer=Validated()))
        if sink:
            events.sink(sink)
        failed = events.filter(lambda event: event.outcome == "failure").apply(failures, stateful=True)
        failed.filter(lambda alert: alert is not None).to_topic(alerts)
    app.run()
    print(watch.result(), flush=True)


if __name__ == "__main__":
    main()
