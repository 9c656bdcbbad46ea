"""`replay`: what each line becomes, when it is due, and that it all arrives."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from conftest import CommandLine, Up, eventually, settings_env
from schema_examples import encode, event

from streams.tenant_log import TenantLog
from streams.topics import partition_of
from tenantwatch.replay import Newcomers, Pace, route


def lines(*values: Any) -> bytes:
    return b"".join(encode(value) + b"\n" for value in values)


def events(tenant_id: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [event(event_id=f"e-{i}", tenant_id=tenant_id, **fields) for i in range(count)]


def stored(up: Up, tenant_id: str) -> int:
    return sum(row["events"] for row in up.control("/counts", tenant_id=tenant_id))


def refreshed(log: TenantLog) -> set[str]:
    log.refresh()
    return log.tenant_ids


def messages_for(bootstrap: str, tenant_id: str) -> int:
    """Return how many messages the tenant's partition of audit.auth has had."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    partition = TopicPartition("audit.auth", partition_of(tenant_id.encode(), 12))
    _, end = consumer.get_watermark_offsets(partition, timeout=10)
    consumer.close()
    return int(end)


def test_an_event_goes_to_its_kind_and_tenant() -> None:
    """A line is sent as it is, to the topic of its kind, keyed by its tenant."""
    line = encode(event("access", tenant_id="tenant-b"))
    assert route(line) == ("access", "tenant-b", line, None, event()["time"])


def test_an_array_is_one_message() -> None:
    """An array of events of one kind and tenant is sent as one."""
    line = encode([event(), event()])
    assert route(line)[2:4] == (line, 2)


@pytest.mark.parametrize(
    "value",
    [
        event(kind="login"),
        event(tenant_id="tenant a"),
        event(tenant_id=7),
        {"tenant_id": "tenant-a"},
        "event",
        [],
        ["event"],
        [event(), event("access")],
        [event(), event(tenant_id="tenant-b")],
    ],
)
def test_a_line_that_names_no_place_to_go_is_refused(value: Any) -> None:
    """Without a kind and a tenant, the same for all of an array, there is no topic and key to send it to."""
    with pytest.raises(ValueError, match=r"kind|tenant|array"):
        route(encode(value))


def test_a_line_that_is_no_json_is_refused() -> None:
    """So is a line cut in the middle."""
    with pytest.raises(ValueError, match="EOF"):
        route(encode(event())[:-1])


class Machine:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.sends = 0

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds

    def send_queued(self) -> None:
        self.sends += 1

    def pace(self, speed: float) -> Pace:
        return Pace(speed, self.send_queued, lambda: self.now, self.sleep)


def test_a_pace_follows_the_events_time() -> None:
    """At speed 10, events 5 s apart are sent half a second apart."""
    machine = Machine()
    pace = machine.pace(10)
    for second in (0, 5, 10):
        pace.wait(f"2026-01-31T09:30:{second:02}Z")
    assert machine.slept == [0.5, 0.5]


def test_a_pace_does_not_wait_for_stragglers() -> None:
    """Events that are out of order or name no time are due at once."""
    machine = Machine()
    pace = machine.pace(1)
    for at in ("2026-01-31T09:30:00Z", "2026-01-31T09:29:00Z", "soon", None, 7):
        pace.wait(at)
    assert machine.slept == []


def test_a_pace_sends_before_it_waits() -> None:
    """What is due now is not held back by the wait for what is due later."""
    machine = Machine()
    pace = machine.pace(1)
    pace.wait("2026-01-31T09:30:00Z")
    pace.wait("2026-01-31T09:31:00Z")
    assert (machine.sends, machine.slept) == (1, [60.0])


def test_a_pace_sends_small_steps_together() -> None:
    """A hundred events a millisecond apart are not a hundred messages."""
    machine = Machine()
    pace = machine.pace(1)
    for ms in range(100):
        pace.wait(f"2026-01-31T09:30:00.{ms:03}Z")
    assert machine.sends == 0


def test_the_directory_is_asked_only_for_tenants_not_seen_before() -> None:
    """Every tenant is looked up once, when its first event comes."""
    asked: list[int] = []

    def known() -> set[str]:
        asked.append(1)
        return {"tenant-a"}

    newcomers = Newcomers(known)
    assert newcomers.among({"tenant-a", "tenant-b"}) == ["tenant-b"]
    assert newcomers.among({"tenant-a", "tenant-b"}) == []
    assert newcomers.among({"tenant-c"}) == ["tenant-c"]
    assert len(asked) == 2


def test_replay_stores_every_event_of_a_tenant_that_was_unknown(up: Up) -> None:
    """On a fresh install nothing becomes a dead letter: the tenant is added first, and that is told."""
    done = up.run("replay", "-", "--json", stdin=lines(*events("replay-new", 500)))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["sent"], told["invalid"]) == (500, 0)
    assert told["messages"] < 500
    assert "added with default settings: replay-new" in done.stderr
    eventually(lambda: stored(up, "replay-new") == 500)
    assert up.control("/dead-letters", tenant_id="replay-new") == []


def test_events_do_not_overtake_their_new_tenant(up: Up) -> None:
    """They are sent once the worker's directory holds their tenant, here a worker that is halted."""
    bootstrap = up.status["kafka"]
    log = TenantLog(bootstrap)
    line = CommandLine({**up.env, "TENANTWATCH_KAFKA": bootstrap})
    before = messages_for(bootstrap, "replay-wait")
    os.kill(up.pid, signal.SIGSTOP)
    try:
        with line.start("replay", "-", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdin is not None
            process.stdin.write(lines(*events("replay-wait", 3)))
            process.stdin.close()
            eventually(lambda: "replay-wait" in refreshed(log))
            time.sleep(0.5)
            held = messages_for(bootstrap, "replay-wait")
            os.kill(up.pid, signal.SIGCONT)
    finally:
        os.kill(up.pid, signal.SIGCONT)
        log.close()
    assert process.returncode == 0
    assert held == before
    eventually(lambda: stored(up, "replay-wait") == 3)


def test_replay_leaves_known_tenants_alone(up: Up) -> None:
    """A tenant's settings are not overwritten with defaults."""
    tenant = {"tenant_id": "replay-known", "organization_id": "o", "name": "Known", "tier": "enterprise"}
    assert up.run("tenants", "apply", "-", stdin=json.dumps(tenant)).returncode == 0
    done = up.run("replay", "-", stdin=lines(*events("replay-known", 1)))
    assert "added" not in done.stderr
    assert up.control("/tenants", tenant_id="replay-known")[0]["tier"] == "enterprise"


def test_replay_can_leave_unknown_tenants_out(up: Up) -> None:
    """With `--no-create-tenants` it warns, and their events are dead letters."""
    done = up.run("replay", "-", "--no-create-tenants", stdin=lines(*events("replay-stranger", 2)))
    assert done.returncode == 0
    assert "warning: replay-stranger: not in the directory" in done.stderr
    eventually(lambda: bool(up.control("/dead-letters", tenant_id="replay-stranger")))
    assert stored(up, "replay-stranger") == 0


def test_replay_sends_arrays_as_they_are(up: Up) -> None:
    """A line with an array is one message, after the events before it."""
    of = events("replay-array", 5)
    done = up.run("replay", "-", "--json", stdin=lines(of[0], of[1:4], of[4]))
    assert (json.loads(done.stdout)["sent"], json.loads(done.stdout)["messages"]) == (5, 3)
    eventually(lambda: stored(up, "replay-array") == 5)


def test_replay_tells_lines_it_cannot_send(up: Up) -> None:
    """They are named by their line, the others are sent, and the exit code is 1."""
    done = up.run("replay", "-", "--json", stdin=lines(event(tenant_id="replay-bad")) + b"\n{}\n")
    assert done.returncode == 1
    assert json.loads(done.stdout) | {"seconds": 0} == {"sent": 1, "messages": 1, "seconds": 0, "invalid": 1}
    assert "line 3: not sent: kind is None" in done.stderr


def test_replay_sends_live_input_as_it_comes(up: Up) -> None:
    """A line that comes through a pipe is not held back until more come."""
    with up.start("replay", "-", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(lines(*events("replay-live", 1)))
        process.stdin.flush()
        eventually(lambda: stored(up, "replay-live") == 1)
        process.stdin.close()
    assert process.returncode == 0


def test_an_interrupted_replay_says_what_it_sent(up: Up) -> None:
    """Ctrl-C is the usual end of a paced replay: it is told how far it came, and the exit code is 130."""
    first, second = events("replay-paced", 2)
    far = second | {"time": "2026-02-28T00:00:00Z"}
    with up.start("replay", "-", "--speed", "1", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(lines(first, far))
        process.stdin.flush()
        eventually(lambda: stored(up, "replay-paced") == 1)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode()
    assert process.returncode == 130
    assert "sent 1 events in 1 messages" in told
    assert "Traceback" not in told


def test_replay_without_kafka_says_what_to_do(tmp_path: Path) -> None:
    """Where Kafka does not answer, one line says so, soon."""
    env = settings_env(tmp_path, kafka="127.0.0.1:1")
    done = CommandLine(env).run("replay", "-", stdin=lines(event()))
    assert done.returncode == 1
    assert done.stderr.startswith("error: Kafka at 127.0.0.1:1 does not answer")
    assert len(done.stderr.splitlines()) == 1
