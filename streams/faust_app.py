"""The Faust app, without agents: the settings that the pipeline's guarantees need."""

from dataclasses import dataclass
from pathlib import Path

import faust

from streams.brokers import credentials
from streams.directory import DirectoryTable
from streams.records import Scheduler
from streams.topics import GROUP


@dataclass(frozen=True)
class StreamConfig:
    """What the streams need to know: all of it settings, but `app_id` and `max_poll_interval_s`."""

    bootstrap: str
    data_dir: Path
    worker_id: str
    app_id: str = GROUP
    commit_interval_s: float = 0.5
    # Time to notice that a worker is gone; after a kill -9 its successor waits this long.
    session_timeout_s: float = 6.0
    # A worker that has not asked for records for this long is taken to hang and loses its partitions.
    max_poll_interval_s: float = 30.0


def create_app(config: StreamConfig) -> faust.App:
    """Return a Faust app with the settings that the pipeline's guarantees need."""
    config.data_dir.mkdir(parents=True, exist_ok=True)
    return faust.App(
        config.app_id,
        broker=f"audit://{config.bootstrap}".replace(",", ";"),
        broker_credentials=credentials(config.bootstrap),
        datadir=str(config.data_dir / "faust"),
        store="memory://",
        web_enabled=False,
        ConsumerScheduler=Scheduler,
        GlobalTable=DirectoryTable,
        # Each message is a chunk of up to 4,000 records; more than a few would only hold memory.
        stream_buffer_maxsize=4,
        # On SIGTERM a chunk that is not acknowledged is redelivered; waiting for it hung over 15 s.
        stream_wait_empty=False,
        broker_commit_interval=config.commit_interval_s,
        broker_session_timeout=config.session_timeout_s,
        broker_heartbeat_interval=config.session_timeout_s / 3,
        broker_max_poll_interval=config.max_poll_interval_s,
        consumer_auto_offset_reset="earliest",
        # A poll hands over a few chunks; without a bound it would unpack all that was fetched at once and
        # hold the interpreter for seconds. A larger message than the fetch size is fetched all the same.
        broker_max_poll_records=8_000,
        consumer_max_fetch_size=1024 * 1024,
        producer_max_request_size=10 * 1024 * 1024,
        producer_linger=0,
        # The topics are ours to create (streams.topics); these would be two more nobody needs.
        topic_disable_leader=True,
        topic_allow_declare=True,
    )
