"""`dead-letters`: what could not be stored, listed, shown and sent again, beside the running worker."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import CommandLine, Up, eventually, settings_env
from schema_examples import encode, event
from test_dead_letters import Written, row

from store.database import Database
from store.migrations import migrate
from streams.topics import partition_of
from tenantwatch.control import Control
from tenantwatch.settings import Settings
from tests.clickhouse_server import ClickHouseServer

Json = dict[str, Any]


def send(up: Up, *messages: tuple[str, bytes, Json], topic: str = "audit.auth") -> None:
    """Send messages given as key, value and headers, and wait until Kafka has them."""
    producer = Producer({"bootstrap.servers": up.status["kafka"], "partitioner": "murmur2_random"})
    for key, value, headers in messages:
        producer.produce(topic, value, key, headers=headers)
    assert producer.flush(30) == 0


def letters(up: Up, tenant_id: str, count: int) -> list[Json]:
    """Return a tenant's dead letters, the latest first, once there are so many."""

    def found() -> list[Json]:
        rows: list[Json] = up.control("/dead-letters", tenant_id=tenant_id)
        return rows if len(rows) == count else []

    return eventually(found)


def letter_id(row: Json) -> str:
    return f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"


def add_tenant(up: Up, tenant_id: str) -> None:
    tenant = {"tenant_id": tenant_id, "organization_id": "org", "name": tenant_id}
    assert up.run("tenants", "apply", "-", stdin=json.dumps(tenant)).returncode == 0


def stored(up: Up, tenant_id: str) -> int:
    return sum(row["events"] for row in up.control("/counts", tenant_id=tenant_id))


def events(tenant_id: str, count: int, **fields: Any) -> list[Json]:
    return [event(tenant_id=tenant_id, event_id=f"{tenant_id}-{i}", **fields) for i in range(count)]


def sent_messages(up: Up, tenant_id: str) -> list[tuple[bytes, Json]]:
    """Return all messages of a tenant in audit.auth, with their headers."""
    options = {"bootstrap.servers": up.status["kafka"], "group.id": "letters", "enable.auto.commit": False}
    consumer = Consumer(options)
    partition = partition_of(tenant_id.encode(), 12)
    _, end = consumer.get_watermark_offsets(TopicPartition("audit.auth", partition))
    consumer.assign([TopicPartition("audit.auth", partition, 0)])
    found = []
    for _ in range(end):
        message = consumer.poll(10)
        assert message is not None
        if message.key() == tenant_id.encode():
            found.append((message.value(), dict(message.headers() or ())))
    consumer.close()
    return found


@pytest.fixture(scope="module")
def rejected(up: Up) -> Sequence[Json]:
    """Letters of letters-a, latest first: no JSON, an array with two bad events of four, no tenant."""
    tenant_id = "letters-a"
    send(up, (tenant_id, encode(events(tenant_id, 1)[0]), {}))
    letters(up, tenant_id, 1)
    add_tenant(up, tenant_id)
    array = events(tenant_id, 4, user_id="ana")
    array[1]["time"] = array[3]["time"] = "never"
    send(up, (tenant_id, encode(array), {"trace": b"t-1"}))
    letters(up, tenant_id, 2)
    send(up, (tenant_id, b'{"torn": ', {}))
    return letters(up, tenant_id, 3)


def test_dead_letters_are_listed_the_latest_first(up: Up, rejected: Sequence[Json]) -> None:
    """Each with its place, and then how many of each reason there are."""
    done = up.run("dead-letters", "list", "--tenant", "letters-a")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines[1:4]] == [letter_id(row) for row in rejected]
    assert [line[3] for line in lines[1:4]] == ["invalid_json", "invalid_event", "unknown_tenant"]
    assert ["invalid_event", "1", "2", "0"] in lines
    assert "fix: add it with `tenantwatch tenants apply FILE`" in done.stdout


def test_dead_letters_are_listed_by_what_is_asked(up: Up, rejected: Sequence[Json]) -> None:
    """Reason, kind and time; the counts are of the same."""
    asked = ("--tenant", "letters-a", "--kind", "auth", "--since", "1h", "--reason", "unknown_tenant")
    found = up.json("dead-letters", "list", *asked)
    assert found["dead_letters"] == [rejected[2]]
    assert [(row["reason"], row["messages"]) for row in found["by_reason"]] == [("unknown_tenant", 1)]


def test_no_dead_letters_are_said(up: Up) -> None:
    """On standard error, and that is no failure."""
    done = up.run("dead-letters", "list", "--tenant", "letters-nobody")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no dead letters\n")


def test_a_letter_is_shown_with_what_was_rejected(up: Up, rejected: Sequence[Json]) -> None:
    """Reason, detail, the message's headers, and of an array only the bad events, each with its position."""
    done = up.run("dead-letters", "show", letter_id(rejected[1]))
    assert done.returncode == 0
    for expected in (
        "invalid_event",
        "[1].time:",
        "[3].time:",
        "header trace",
        "t-1",
        '"event_id": "letters-a-3"',
    ):
        assert expected in done.stdout
    assert '"letters-a-0"' not in done.stdout
    assert [line for line in done.stdout.splitlines() if line in ("[1] {", "[3] {")] == ["[1] {", "[3] {"]


def test_the_bytes_of_a_letter_are_printed_as_they_are(up: Up, rejected: Sequence[Json]) -> None:
    """`--raw` prints the message and nothing else; `--json` has it as text."""
    torn = letter_id(rejected[0])
    assert up.run("dead-letters", "show", torn, "--raw").stdout == '{"torn": '
    shown = up.json("dead-letters", "show", torn)
    assert (shown["value"], shown["key"], shown["problem"]) == ('{"torn": ', "letters-a", None)


def test_a_long_message_is_cut(up: Up) -> None:
    """With how much was left out, and how to see all of it."""
    long = encode(events("letters-long", 1, user_agent="x" * 9_000)[0])
    send(up, ("letters-long", long, {}))
    [row] = letters(up, "letters-long", 1)
    done = up.run("dead-letters", "show", letter_id(row))
    assert len(done.stdout) < 5_500
    assert "more characters; --raw" in done.stderr
    assert up.run("dead-letters", "show", letter_id(row), "--raw").stdout.encode() == long


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["show", "audit.auth:0:987654321"], 1, "`tenantwatch dead-letters list`"),
        (["redrive", "17"], 2, "audit.auth:3:17"),
        (["redrive", "audit.auth:0:1", "--kind", "auth"], 2, "not both"),
    ],
)
def test_what_is_not_there_or_cannot_be_is_told(up: Up, arguments: list[str], code: int, told: str) -> None:
    """Exit code 1 for a letter that does not exist, 2 for what can be none."""
    done = up.run("dead-letters", *arguments)
    assert done.returncode == code
    assert told in done.stderr


def test_a_redriven_message_is_stored_exactly_once(up: Up) -> None:
    """The cause mended, its events are stored; a second redrive sends nothing, unless it is told to."""
    tenant_id = "letters-b"
    send(up, *((tenant_id, encode(e), {"trace": b"t-2"}) for e in events(tenant_id, 3)))
    rows = letters(up, tenant_id, 3)
    add_tenant(up, tenant_id)
    command = ("dead-letters", "redrive", "--tenant", tenant_id)
    assert up.json(*command, "--dry-run")["messages"] == 3
    assert up.run(*command, stdin="n\n").returncode == 1
    assert stored(up, tenant_id) == 0

    done = up.run(*command, stdin="y\n")
    assert done.returncode == 0, done.stderr
    assert "Send 3 messages again (3 unknown_tenant)?" in done.stderr
    eventually(lambda: stored(up, tenant_id) == 3)
    sent = sent_messages(up, tenant_id)[3:]
    assert [json.loads(value)["event_id"] for value, _ in sent] == [f"{tenant_id}-{i}" for i in range(3)]
    assert [headers["redriven_from"].decode() for _, headers in sent] == [
        letter_id(row) for row in rows[::-1]
    ]
    assert {headers["trace"] for _, headers in sent} == {b"t-2"}

    second = up.json(*command, "--yes")
    assert (second["messages"], second["sent_before"]) == (0, 3)
    assert up.json(*command, "--yes", "--again")["messages"] == 3
    eventually(lambda: stored(up, tenant_id) == 6)
    assert len(sent_messages(up, tenant_id)) == 9


def test_a_letter_is_redriven_by_its_id(up: Up) -> None:
    """Only the one that is named; `list` says then that it was."""
    tenant_id = "letters-c"
    send(up, *((tenant_id, encode(e), {}) for e in events(tenant_id, 2)))
    rows = letters(up, tenant_id, 2)
    add_tenant(up, tenant_id)
    assert up.json("dead-letters", "redrive", letter_id(rows[0]), "--yes")["messages"] == 1
    eventually(lambda: stored(up, tenant_id) == 1)
    listed = letters(up, tenant_id, 2)
    assert [row["redrive_status"] for row in listed] == ["sent", ""]
    assert up.json("dead-letters", "redrive", letter_id(rows[0]), "--yes")["sent_before"] == 1
    assert "sent" in up.run("dead-letters", "show", letter_id(rows[0])).stdout


def test_of_an_array_only_the_rejected_events_are_sent_again(up: Up, rejected: Sequence[Json]) -> None:
    """The good ones are stored already; what is still wrong becomes a new letter."""
    result = up.json("dead-letters", "redrive", letter_id(rejected[1]), "--yes")
    assert (result["messages"], result["events"]) == (1, 2)
    newest = letters(up, "letters-a", 4)[0]
    assert (newest["reason"], newest["rejected_indexes"]) == ("invalid_event", [0, 1])
    value, headers = sent_messages(up, "letters-a")[-1]
    assert [e["event_id"] for e in json.loads(value)] == ["letters-a-1", "letters-a-3"]
    assert headers == {"trace": b"t-1", "redriven_from": letter_id(rejected[1]).encode()}
    assert stored(up, "letters-a") == 2


def test_an_unreadable_message_is_sent_again_as_it_is(up: Up, rejected: Sequence[Json]) -> None:
    """Nothing of it can be chosen."""
    assert up.json("dead-letters", "redrive", "--tenant", "letters-a", "--reason", "invalid_json", "--yes")[
        "events"
    ]
    eventually(lambda: sent_messages(up, "letters-a")[-1][0] == b'{"torn": ')


def test_a_message_that_kafka_has_let_go_of_is_told(up: Up) -> None:
    """Its row stays: `show` says what is missing, and `redrive` fails."""
    used = {partition_of(name.encode(), 12) for name in ("letters-a", "letters-b", "letters-c", "letters-d")}
    names = (f"letters-gone-{i}" for i in range(100))
    tenant_id = next(name for name in names if partition_of(name.encode(), 12) not in used)
    send(up, (tenant_id, b"{", {}))
    [row] = letters(up, tenant_id, 1)
    admin = AdminClient({"bootstrap.servers": up.status["kafka"]})
    everything = TopicPartition("audit.dead-letters", partition_of(tenant_id.encode(), 12), -1)
    for done in admin.delete_records([everything]).values():
        done.result(30)
    shown = up.run("dead-letters", "show", letter_id(row))
    assert shown.returncode == 0
    assert "invalid_json" in shown.stdout
    assert "has let go of it" in shown.stderr
    assert up.run("dead-letters", "show", letter_id(row), "--raw").returncode == 1
    redriven = up.run("dead-letters", "redrive", letter_id(row), "--yes")
    assert redriven.returncode == 1
    assert "1 are gone" in redriven.stderr


def test_a_message_that_is_too_large_to_be_set_aside_is_told(up: Up) -> None:
    """12 MB that a codec makes small: the worker goes on, and says where the message is."""
    tenant_id = "letters-huge"
    options = {"compression.type": "zstd", "message.max.bytes": 20_000_000}
    producer = Producer({"bootstrap.servers": up.status["kafka"], "partitioner": "murmur2_random", **options})
    producer.produce("audit.auth", b"{" + b"x" * 12_000_000, tenant_id)
    assert producer.flush(30) == 0
    [row] = letters(up, tenant_id, 1)
    assert (row["reason"], row["value_bytes"]) == ("message_too_large", 12_000_001)
    where = f"audit.auth partition {row['kafka_partition']} at offset {row['kafka_offset']}"
    for command in (["show", letter_id(row)], ["redrive", letter_id(row), "--yes"]):
        told = up.run("dead-letters", *command).stderr
        assert "too large to be set aside (12,000,013 bytes)" in told
        assert where in told
    assert up.run("dead-letters", "show", letter_id(row), "--raw").returncode == 1
    assert up.run("dead-letters", "redrive", letter_id(row), "--yes").returncode == 1


def test_an_interrupted_redrive_is_not_repeated_unasked(up: Up) -> None:
    """Claimed and not noted as sent: nobody knows, so it is said, and `--again` decides."""
    tenant_id = "letters-d"
    send(up, (tenant_id, encode(events(tenant_id, 1)[0]), {}))
    [row] = letters(up, tenant_id, 1)
    add_tenant(up, tenant_id)
    with Control(Settings(data_dir=up.data_dir)) as control:
        body = {"letters": [row], "status": "sending"}
        assert len(control.request("POST", "/dead-letters/redrives", json=body)) == 1
        assert control.request("POST", "/dead-letters/redrives", json=body) == []
    done = up.run("dead-letters", "redrive", "--tenant", tenant_id, "--yes")
    assert done.returncode == 0
    assert "1 may have been sent" in done.stderr
    assert stored(up, tenant_id) == 0
    assert up.json("dead-letters", "redrive", letter_id(row), "--yes", "--again")["messages"] == 1
    eventually(lambda: stored(up, tenant_id) == 1)


def test_dead_letters_are_redriven_beside_a_cluster(kafka: str, tmp_path: Path) -> None:
    """Without a worker on this machine: the settings name Kafka and ClickHouse's server."""
    written = Written(kafka)
    written.write(11, value=b'{"torn": ')
    server = ClickHouseServer(tmp_path / "clickhouse")
    url = server.start()
    try:
        database = Database.server(url)
        migrate(database)
        now = {"rejected_at": datetime.now(UTC), "kafka_topic_id": written.topic_id}
        database.insert_rows("dead_letters", [row("letters-e", 11, reason="invalid_json", **now)])
        database.close()
        line = CommandLine(settings_env(tmp_path / "nothing", kafka=kafka, clickhouse=url))
        assert line.run("dead-letters", "show", "audit.auth:3:11", "--raw").stdout == '{"torn": '
        command = ("dead-letters", "redrive", "--tenant", "letters-e", "--yes")
        assert line.json(*command)["messages"] == 1
        assert line.json(*command)["sent_before"] == 1
    finally:
        server.stop()
