"""What is read from ``audit.alerts``, and what is passed over."""

import asyncio
import json
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from schemas.alert import Alert
from store.writer import alert_row
from streams import metrics
from streams.app import Pipeline
from streams.faust_app import StreamConfig, create_app
from streams.received_alerts import read_alerts
from streams.records import Records
from streams.topics import ALERTS, Topics
from tests.test_schemas_alert import alert


def chunk(*values: bytes | None, first: int = 0) -> Records:
    n = len(values)
    return Records(ALERTS, 5, list(range(first, first + n)), [None] * n, list(values), [()] * n, [0] * n)


def unreadable() -> float:
    return float(metrics.ALERTS_UNREADABLE._value.get())


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"alert_id": "only"}'])
def test_what_is_no_alert_is_counted_and_passed_over(value: bytes | None) -> None:
    """A tombstone, garbage, half an alert: those beside it are read."""
    before = unreadable()
    good = alert()
    written = good.model_dump_json().encode()
    read = read_alerts([chunk(written, value), chunk(written, first=9)])
    assert [(one.alert_id, partition) for one, partition in read] == [(good.alert_id, 5)] * 2
    assert unreadable() == before + 1


def test_a_time_that_is_none_in_utc_is_counted_and_passed_over() -> None:
    """It could not be written to the store."""
    body = json.loads(alert().model_dump_json()) | {"first_time": "0001-01-01T00:00:00+14:00"}
    assert read_alerts([chunk(json.dumps(body).encode())]) == []


def test_what_a_newer_version_adds_is_kept_in_the_row() -> None:
    """A worker that is not replaced yet stores the body as it came, at every depth."""
    body: dict[str, Any] = json.loads(alert().model_dump_json())
    body["confidence"] = {"of": 3}
    body["evidence"]["chart"] = [1, 2]
    body["entity"]["label"] = "Ana"
    [(read, _)] = read_alerts([chunk(json.dumps(body).encode())])
    assert json.loads(alert_row(read)["body"]) == body


class Delivered:
    """A chunk of alerts as Faust hands it over, of one generation of the group."""

    def __init__(self, generation: int, *alerts: Alert) -> None:
        self.message = Mock(generation_id=generation)
        self.value = chunk(*(one.model_dump_json().encode() for one in alerts))
        self.ack = Mock()


async def test_alerts_of_an_assignment_that_is_over_are_left_to_the_next(tmp_path: Path) -> None:
    """They come again, perhaps to another worker: handed over now they would be delivered by two."""
    on_alerts, fail = AsyncMock(), Mock()
    pipeline = Pipeline(
        create_app(StreamConfig("127.0.0.1:1", tmp_path, "w")),
        Topics("cluster", {}, 12, 12),
        Mock(),
        addresses=Mock(),
        take_over=Mock(),
        on_alerts=on_alerts,
        fail=fail,
    )
    pipeline.app.consumer_generation_id = 2
    old, new = Delivered(1, alert(alert_id="old")), Delivered(2, alert(alert_id="new"))
    waiting: asyncio.Queue[Any] = asyncio.Queue()
    for event in (old, new):
        waiting.put_nowait(event)
    handling = asyncio.create_task(pipeline._handle_alerts(waiting))
    async with asyncio.timeout(10):
        while not new.ack.called:
            await asyncio.sleep(0.01)
    handling.cancel()
    assert [one.alert_id for one, _ in on_alerts.call_args.args[0]] == ["new"]
    assert not old.ack.called
    assert not fail.called
