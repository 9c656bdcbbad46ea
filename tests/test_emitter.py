"""The emitter: what services install beside their own code to send events."""

import collections
import contextlib
import copy
import datetime
import doctest
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.partitioner.default import murmur2

from schemas.event import KINDS, MAX_EVENT_BYTES, Kind
from schemas.parse import parse
from streams.broker import BrokerConfig, EmbeddedKafka
from tests.sizes import examples

# The emitter is no package of ours: the tests read it from its own tree.
sys.path.insert(0, str(Path(__file__).parents[1] / "emitter" / "src"))

from tenantwatch_emitter import Emitter, InvalidEvent, QueueFull, delivery, emitter, events, validation
from tenantwatch_emitter.delivery import MAX_ARRAY_BYTES, Item, Undelivered, messages
from tenantwatch_emitter.events import encode, new_event_id, schema_of
from tenantwatch_emitter.outbox import Outbox
from tenantwatch_emitter.validation import Schema

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "emitter" / "src"
PARTITIONS = 4
DEADLINE_S = 60.0
TOPICS = [f"audit.{kind}" for kind in KINDS]
VALID: dict[str, Any] = {
    "kind": "auth",
    "event_id": "e1",
    "tenant_id": "tenant-a",
    "time": "2026-01-31T09:30:00.000Z",
    "service": "billing-api",
    "action": "login",
    "outcome": "failure",
}


# --- an event is checked ---------------------------------------------------------------------------------


def schema_file(kind: str) -> Any:
    return json.loads((ROOT / "schemas" / "json" / f"{kind}-event.json").read_text())


FORMATS: dict[str, Callable[[str], bool]] = {
    "ipv4": lambda text: bool(ipaddress.IPv4Address(text).packed),
    "ipv6": lambda text: not ipaddress.IPv6Address(text).scope_id,
    "date-time": lambda text: bool(datetime.datetime.fromisoformat(text.upper().replace(":60", ":59"))),
}


def reference(kind: str) -> Callable[[dict[str, Any]], bool]:
    """Return what the jsonschema package says, told what its own defaults leave out."""

    def ecma(node: Any) -> Any:
        """Python's ``$`` also matches before a line break at the end, JSON Schema's does not."""
        if isinstance(node, dict):
            return {k: v[:-1] + r"\Z" if k == "pattern" else ecma(v) for k, v in node.items()}
        return [ecma(part) for part in node] if isinstance(node, list) else node

    formats = jsonschema.FormatChecker(formats=())
    for name, parses in FORMATS.items():
        formats.checks(name, ValueError)(
            lambda value, parses=parses: not isinstance(value, str) or parses(value)
        )
    validator = jsonschema.Draft202012Validator(ecma(schema_file(kind)), format_checker=formats)

    def is_valid(event: dict[str, Any]) -> bool:
        size = len(
            json.dumps(event.get("attributes") or {}, separators=(",", ":"), ensure_ascii=False).encode()
        )
        return size <= 8192 and validator.is_valid(event)

    return is_valid


REFERENCES = {kind: reference(kind) for kind in KINDS}
TEXTS = st.one_of(
    st.text(max_size=70),
    st.sampled_from(
        ["", "x" * 64, "x" * 65, "é" * 256, "é" * 257, "tenant-a\n", "Login", "mfa", "GET", "1", "٣"]
    ),
    st.sampled_from(
        ["192.0.2.7", "192.0.2.07", "192.0.2", "2001:db8::7", "fe80::1%eth0", "::ffff:192.0.2.7"]
    ),
    st.sampled_from(
        ["2026-02-28T00:00:00Z", "2026-02-30T00:00:00Z", "2024-02-29 23:59:60.5+23:59", "2026-01-01"]
    ),
    st.sampled_from(["2026-01-01t00:00:00.123456789z", "2026-01-01T00:00:00", "1969-12-31T00:00:00Z"]),
    st.sampled_from(["success", "failure", "auth", "access", "request"]),
)
NUMBERS = st.one_of(
    st.integers(-2, 700),
    st.sampled_from([2**63 - 1, 2**63, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(TEXTS, SCALARS, max_size=34),
    st.dictionaries(TEXTS, st.lists(SCALARS, max_size=1), max_size=1),
    st.builds(lambda n: {"a": "x" * n}, st.integers(8180, 8190)),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Kind, dict[str, Any]]:
    """A kind, and a valid event of it with up to three fields set to anything, or taken away."""
    kind: Kind = draw(st.sampled_from(KINDS))
    event = {**VALID, "kind": kind}
    if kind == "request":
        del event["action"]
    for name in draw(st.lists(st.sampled_from(sorted(schema_of(kind).properties)), max_size=3)):
        if draw(st.integers(0, 5)):
            event[name] = draw(VALUES)
        else:
            event.pop(name, None)
    return kind, event


@given(cases())
@examples(100, thorough=1500)
def test_the_checker_agrees_with_jsonschema(case: tuple[Kind, dict[str, Any]]) -> None:
    """Whatever the event, our small checker and the jsonschema package come to the same verdict."""
    for kind in KINDS:
        assert (not list(schema_of(kind).problems(case[1]))) == REFERENCES[kind](case[1])


@given(cases())
@examples(60, thorough=500)
def test_what_the_emitter_accepts_the_pipeline_accepts(case: tuple[Kind, dict[str, Any]]) -> None:
    """An event that leaves the emitter is never a dead letter, alone or in an array."""
    try:
        value = encode(*case)
    except InvalidEvent:
        return
    parsed = parse(case[0], [value, b"[" + value + b"," + value + b"]"])
    assert not parsed.rejections
    assert not parsed.unknown_fields


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["allOf", "$ref", "exclusiveMinimum", "patternProperties", "uniqueItems"])
def test_an_unknown_keyword_is_refused(kind: Kind, part: str) -> None:
    """A schema with a rule that the checker would not enforce does not load, however deep the rule is."""
    schema = schema_file(kind)
    Schema(copy.deepcopy(schema))
    schema["properties"]["attributes"]["anyOf"][0]["additionalProperties"]["anyOf"][0][part] = True
    with pytest.raises(ValueError, match=re.escape(part)):
        Schema(schema)


@pytest.mark.parametrize(
    "schema", [{"type": "array"}, {"format": "hostname"}, {"const": 1}, {"enum": ["a", 1]}]
)
def test_an_unsupported_argument_is_refused(schema: dict[str, Any]) -> None:
    """A type, format or constant that the checker cannot compare does not load."""
    with pytest.raises(ValueError, match="supported"):
        Schema(schema)


@pytest.mark.parametrize(
    ("field", "meant"), [("source_ips", "source_ip"), ("userid", "user_id"), ("reasons", "reason")]
)
def test_a_misspelt_field_is_named_with_the_nearest_one(field: str, meant: str) -> None:
    """A field that the contract does not know is refused, and the message guesses what was meant."""
    with pytest.raises(InvalidEvent, match=f"^{field}: .*did you mean `{meant}`"):
        encode("auth", {**VALID, field: "x"})


def test_a_field_of_another_kind_is_refused() -> None:
    """What an access event has, an auth event has not."""
    encode("access", {**VALID, "kind": "access", "record_count": 3})
    with pytest.raises(InvalidEvent, match="record_count"):
        encode("auth", {**VALID, "record_count": 3})


NAIVE = datetime.datetime(2026, 1, 31, 9, 30)
FIRST_EAST = datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=14)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": None}, "action: missing; fix: add the field"),
        (
            {"outcome": "ok"},
            "outcome: not one of the known words, found 'ok'; fix: send one of: success, failure",
        ),
        ({"user_id": 12345}, "user_id: not a string, found int; fix: send a string"),
        (
            {"user_id": "s3cret" * 50},
            "user_id: longer than 256 characters, found str of length 300; fix: send at most",
        ),
        (
            {"source_ip": "192.0.2.7:443"},
            "source_ip: not an address like .* or an address like .*, found str of length 13",
        ),
        ({"time": "yesterday"}, "time: of a wrong form, found 'yesterday'; fix: send text that matches"),
        ({"time": "2026-02-30T00:00:00Z"}, "time: not a day that exists, found '2026-02-30T00:00:00Z'"),
        ({"time": NAIVE}, "time: a datetime without a zone; fix: send an aware one"),
        ({"time": FIRST_EAST}, "time: before the year 1 or after 9999 in UTC; fix: send when it happened"),
        (
            {"user_agent": "\ud800"},
            "user_agent: half of a surrogate pair in it, found str of length 1; fix: encode",
        ),
        (
            {"attributes": {"a": [1]}},
            r"attributes\.a: not a string or .*, found list of length 1; fix: send a string or",
        ),
        ({"attributes": {"a": float("nan")}}, r"attributes\.a: not a string or .*, found float"),
        ({"attributes": {"\ud800": 1}}, "attributes: not possible in JSON"),
        ({"attributes": {1: 1}}, "attributes: not a dict with string keys"),
        ({"attributes": {"a": "é" * 4096}}, "attributes: 8200 bytes of JSON, at most 8192 are kept"),
        (
            {"attributes": {str(i): i for i in range(33)}},
            "attributes: more than 32 keys, found dict of length 33",
        ),
        ({"user_agent": "x" * MAX_EVENT_BYTES}, "event: .* bytes of JSON, at most 1048576 are kept"),
        ({"kind": "access"}, "kind: not one of the known words, found 'access'; fix: send one of: auth"),
    ],
)
def test_an_error_says_field_found_and_fix(fields: dict[str, Any], message: str) -> None:
    """The message names the field, says what was found and how to mend it."""
    with pytest.raises(InvalidEvent, match=message):
        encode("auth", {**VALID, **fields})


@pytest.mark.parametrize(
    "field", ["user_id", "session_id", "attributes", "source_ip", "token_id", "event_id"]
)
def test_an_error_holds_no_personal_value(field: str) -> None:
    """Errors end in logs: they describe the value of a field that may be personal instead of quoting it."""
    for value in (70004711, {"name": "70004711" * 2000}, ["70004711"], "70004711\ud800"):
        with pytest.raises(InvalidEvent) as caught:
            encode("auth", {**VALID, field: value})
        assert "70004711" not in str(caught.value)
        assert "70004711" not in repr(caught.value)


def test_several_problems_come_in_one_error() -> None:
    """A producer learns of all the fields to mend at once."""
    with pytest.raises(InvalidEvent) as caught:
        encode("auth", {**VALID, "outcome": "ok", "tenant_id": "a b", "sevice": "x"})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["sevice", "tenant_id", "outcome"]


def test_an_aware_datetime_becomes_utc_milliseconds() -> None:
    """`time` may be a datetime of any zone; it is sent in the form in which it is stored."""
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    moment = datetime.datetime(2026, 1, 31, 9, 30, 0, 123_999, zone)
    assert json.loads(encode("auth", {**VALID, "time": moment}))["time"] == "2026-01-31T04:00:00.123Z"


def test_event_ids_are_version_7_and_sort_by_time() -> None:
    """Ids are unique, of the version that the contract recommends, and later ones are greater."""
    first = [uuid.UUID(new_event_id()) for _ in range(1000)]
    time.sleep(0.002)
    later = uuid.UUID(new_event_id())
    assert len(set(first)) == 1000
    assert {(value.version, value.variant) for value in first} == {(7, uuid.RFC_4122)}
    assert max(first) < later


@given(st.binary(min_size=1, max_size=64))
def test_a_key_has_the_partition_that_aiokafka_gives_it(key: bytes) -> None:
    """The pipeline checks where a message lies; kafka-python and aiokafka must agree on it."""
    expected = DefaultPartitioner()(key, list(range(12)), list(range(12)))
    assert (murmur2(key) & 0x7FFFFFFF) % 12 == expected


def test_a_key_has_the_hash_that_java_gives_it() -> None:
    """Values from the tests of Kafka's own client."""
    java = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"abc": 479470107,
    }
    assert {key: murmur2(key) for key in java} == {key: value % 2**32 for key, value in java.items()}


# --- an event is queued ----------------------------------------------------------------------------------


class FakeKafka:
    """Takes what is delivered as `Delivery` does, in memory; `answer` decides what becomes of a round."""

    def __init__(self) -> None:
        self.rounds: list[list[bytes]] = []
        self.open = threading.Event()
        self.open.set()
        self.answers: collections.deque[Callable[[Sequence[Item]], Undelivered]] = collections.deque()

    def deliver(self, items: Sequence[Item]) -> Undelivered:
        assert self.open.wait(DEADLINE_S)
        self.rounds.append([item.value for item in items])
        return self.answers.popleft()(items) if self.answers else Undelivered([], 0, None)

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    """Every emitter of the test delivers to this."""
    kafka = FakeKafka()
    monkeypatch.setattr(emitter, "Delivery", lambda *_: kafka)
    return kafka


def item(value: int) -> Item:
    return Item("audit.auth", b"tenant-a", b"%d" % value)


def outbox(kafka: Any, **bounds: Any) -> Outbox:
    return Outbox(kafka, **{"max_events": 100, "max_bytes": 2**20, "linger_s": 0.0, **bounds})


def login(audit: Emitter, **fields: Any) -> str:
    return audit.auth("tenant-a", **{"action": "login", "outcome": "failure", **fields})


def test_an_event_is_filled_in(fake: FakeKafka) -> None:
    """Kind, tenant, id, time and service need not be given, but may be."""
    with Emitter("kafka:9092", "billing-api") as audit:
        event_id = login(audit, user_id="ana", reason=None)
        audit.request("tenant-b", outcome="success", event_id="mine", service="gateway", time=VALID["time"])
    first, second = (json.loads(value) for values in fake.rounds for value in values)
    assert abs(datetime.datetime.fromisoformat(first["time"]).timestamp() - time.time()) < DEADLINE_S
    assert first == {**VALID, "event_id": event_id, "user_id": "ana", "time": first["time"]}
    assert second == {
        "kind": "request",
        "tenant_id": "tenant-b",
        "event_id": "mine",
        "service": "gateway",
        "time": VALID["time"],
        "outcome": "success",
    }
    assert audit.stats() == (2, 0, 0, 0, 0)


def test_a_full_queue_drops_the_new_event_and_says_so_once(
    fake: FakeKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """By default a service goes on; the loss is counted, and logged at most once a minute."""
    fake.open.clear()
    audit = Emitter("kafka:9092", "billing-api", max_queued_events=3)
    for i in range(10):
        login(audit, event_id=str(i))
    assert audit.stats() == (0, 3, 7, 0, 0)
    fake.open.set()
    assert audit.close()
    assert [json.loads(value)["event_id"] for values in fake.rounds for value in values] == ["0", "1", "2"]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["event_dropped"]


def test_the_queue_is_bounded_in_bytes(fake: FakeKafka) -> None:
    """Few large events fill it as well as many small ones."""
    fake.open.clear()
    audit = Emitter("kafka:9092", "billing-api", max_queued_bytes=50_000)
    for _ in range(10):
        login(audit, user_agent="x" * 20_000)
    assert audit.stats()[1:3] == (2, 8)
    fake.open.set()
    audit.close()


def test_a_full_queue_raises_where_asked_to(fake: FakeKafka) -> None:
    """`on_full="raise"` leaves it to the service."""
    fake.open.clear()
    audit = Emitter("kafka:9092", "billing-api", max_queued_events=1, on_full="raise")
    login(audit)
    with pytest.raises(QueueFull, match="1 events wait for Kafka"):
        login(audit)
    fake.open.set()
    audit.close()


def test_a_full_queue_blocks_where_asked_to(fake: FakeKafka) -> None:
    """`on_full="block"` waits for room and loses nothing."""
    fake.open.clear()
    audit = Emitter("kafka:9092", "billing-api", max_queued_events=1, on_full="block")
    login(audit)
    blocked = threading.Thread(target=login, args=(audit,))
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive()
    fake.open.set()
    blocked.join(DEADLINE_S)
    audit.close()
    assert audit.stats() == (2, 0, 0, 0, 0)


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """No thread can be started, as where a container's limit is reached: none gets a stack of a pebibyte."""
    usual = threading.stack_size(2**50)
    try:
        yield
    finally:
        threading.stack_size(usual)


def test_without_a_thread_an_event_waits_for_the_next(
    fake: FakeKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised into the service; each event is delivered once, under the id that it got."""
    audit = Emitter("kafka:9092", "billing-api", on_full="raise")
    with no_thread_left():
        sent = [login(audit), login(audit)]
        assert not audit.flush()
    assert audit.stats() == (0, 2, 0, 0, 0)
    assert [record.getMessage().split()[:2] for record in caplog.records] == [
        ["event_delayed", "reason=no_thread"]
    ]
    sent.append(login(audit))
    assert audit.close()
    assert [json.loads(value)["event_id"] for values in fake.rounds for value in values] == sent


def test_a_call_that_waits_for_room_goes_on_when_a_thread_can_start(fake: FakeKafka) -> None:
    """`on_full="block"` does not wait for ever where the queue filled before any thread ran."""
    audit = Emitter("kafka:9092", "billing-api", max_queued_events=1, on_full="block")
    blocked = threading.Thread(target=login, args=(audit,))
    with no_thread_left():
        login(audit)
    blocked.start()
    blocked.join(DEADLINE_S)
    assert not blocked.is_alive()
    assert audit.close()
    assert audit.stats() == (2, 0, 0, 0, 0)


def test_unsent_events_are_sent_again_in_their_order() -> None:
    """A round that failed comes again before newer events, and nothing of it is counted twice."""
    kafka = FakeKafka()
    box = outbox(kafka)

    def away(items: Sequence[Item]) -> Undelivered:
        box.put(item(1), "drop")
        return Undelivered(list(items), 0, OSError("away"))

    kafka.answers += [away, lambda items: Undelivered(list(items)[1:], 0, OSError("half away"))]
    box.put(item(0), "drop")
    assert box.flush(DEADLINE_S)
    assert box.close(DEADLINE_S)
    assert kafka.rounds == [[b"0"], [b"0", b"1"], [b"1"]]
    assert box.stats() == (2, 0, 0, 0, 0)


def test_what_kafka_refuses_for_good_is_counted_and_not_repeated() -> None:
    """A message that no repetition would help makes room for the others."""
    kafka = FakeKafka()
    kafka.answers.append(lambda items: Undelivered([], 1, ValueError("too large")))
    box = outbox(kafka)
    box.put(item(0), "drop")
    assert box.flush(DEADLINE_S)
    box.put(item(1), "drop")
    assert box.close(DEADLINE_S)
    assert kafka.rounds == [[b"0"], [b"1"]]
    assert box.stats() == (1, 0, 0, 1, 0)


def test_flush_and_close_tell_what_did_not_arrive(caplog: pytest.LogCaptureFixture) -> None:
    """Neither waits longer than allowed; what is given up is counted as dropped and logged."""
    kafka = FakeKafka()
    kafka.open.clear()
    box = outbox(kafka)
    box.put(item(0), "drop")
    assert not box.flush(0.01)
    assert not box.close(0.01)
    box.put(item(1), "block")
    kafka.open.set()
    assert box.stats() == (0, 0, 2, 0, 0)
    assert "events_lost count=1" in caplog.text


def test_an_invalid_event_is_only_logged_where_asked_to(
    fake: FakeKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_invalid="log"` keeps a login going; what is logged has no personal value."""
    audit = Emitter("kafka:9092", "billing-api", on_invalid="log")
    assert login(audit, event_id="e1", user_id="ana" * 100) == "e1"
    audit.close()
    assert audit.stats() == (0, 0, 0, 0, 1)
    assert "event_rejected kind=auth" in caplog.text
    assert "user_id: longer than 256 characters" in caplog.text
    assert "anaana" not in caplog.text


def test_an_option_that_would_break_a_promise_is_refused() -> None:
    """Partitioner, acknowledgements and idempotence are part of the contract."""
    for option in ({"acks": 1}, {"partitioner": None}, {"enable_idempotence": False}):
        with pytest.raises(ValueError, match="cannot be changed"):
            Emitter("kafka:9092", "billing-api", **option)


def test_a_misspelt_option_is_refused_without_its_value() -> None:
    """Else it would fail in the background, with the password in the log."""
    with pytest.raises(ValueError, match="sasl_plain_pasword") as caught:
        Emitter("kafka:9092", "billing-api", sasl_plain_pasword="s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"on_full": "wait"}, {"on_invalid": "drop"}, {"service": ""}, {"bootstrap_servers": ""}]
)
def test_a_wrong_argument_is_refused_at_once(arguments: dict[str, Any]) -> None:
    """A service finds out when it starts, not when an event is lost."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Emitter(**{"bootstrap_servers": "kafka:9092", "service": "billing-api", **arguments})


ITEMS = st.builds(
    Item,
    st.sampled_from(["audit.auth", "audit.access"]),
    st.sampled_from([b"a", b"b", b"c"]),
    st.integers(0, 400).map(lambda n: b"x" * n),
)


@given(st.lists(ITEMS, max_size=60), st.integers(0, 1000))
def test_events_share_a_message_only_within_a_tenant(items: list[Item], array_bytes: int) -> None:
    """A message is of one topic and tenant, within its size, and each tenant's events keep their order."""
    groups = list(messages(items, array_bytes))
    for group in groups:
        assert len({(event.topic, event.key) for event in group}) == 1
        assert len(group) == 1 or sum(len(event.value) + 1 for event in group) <= array_bytes
    for stream in {(event.topic, event.key) for event in items}:
        sent = [event for group in groups for event in group if (event.topic, event.key) == stream]
        assert list(map(id, sent)) == [id(event) for event in items if (event.topic, event.key) == stream]


def test_a_message_has_at_most_a_thousand_events() -> None:
    """The contract's limit on an array."""
    sizes = [len(group) for group in messages([item(i) for i in range(2500)], MAX_ARRAY_BYTES)]
    assert sizes == [1000, 1000, 500]


# --- an event arrives ------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def create_topics(bootstrap: str, topics: Sequence[str] = TOPICS) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics])
    admin.close()


def read(bootstrap: str, topics: Sequence[str] = TOPICS) -> list[tuple[Any, dict[str, Any]]]:
    """Return every message with each of its events."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    try:
        partitions = [TopicPartition(topic, p) for topic in topics for p in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        found = []
        deadline = time.monotonic() + DEADLINE_S
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            assert time.monotonic() < deadline
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    content = json.loads(record.value)
                    found += [
                        (record, event) for event in (content if isinstance(content, list) else [content])
                    ]
        return found
    finally:
        consumer.close()


def ids(bootstrap: str, topics: Sequence[str] = TOPICS) -> list[str]:
    return sorted(event["event_id"] for _, event in read(bootstrap, topics))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A real broker; tests use topics of their own in it."""
    broker = EmbeddedKafka(BrokerConfig(tmp_path_factory.mktemp("kafka"), port=0, controller_port=0))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def prefix(broker: EmbeddedKafka, request: pytest.FixtureRequest) -> str:
    """The prefix of three topics that are this test's own."""
    name = f"t{uuid.uuid4().hex[:8]}"
    create_topics(broker.bootstrap, topics_of(name))
    return name


def topics_of(prefix: str) -> list[str]:
    return [f"{prefix}.{kind}" for kind in KINDS]


def run(code: str, *arguments: str, python: str = sys.executable) -> Any:
    """Run a service in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)} if python == sys.executable else {}
    return subprocess.run(
        [python, "-c", code, *arguments],
        env=environment,
        cwd=Path(python).parent,  # else Python would find the repository's packages
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_events_of_every_kind_arrive_on_their_topic(broker: EmbeddedKafka, prefix: str) -> None:
    """The key is the tenant, the partition murmur2 of the key, and the pipeline accepts each value."""
    with Emitter(broker.bootstrap, "billing-api", topic_prefix=prefix, compression_type="gzip") as audit:
        for i in range(200):
            tenant_id = f"tenant-{i % 7}"
            login(audit, event_id=f"login-{i}")
            audit.access(tenant_id, action="read", outcome="success", event_id=f"read-{i}")
            audit.request(tenant_id, http_status=200, outcome="success", event_id=f"get-{i}")
    assert audit.stats() == (600, 0, 0, 0, 0)
    found = read(broker.bootstrap, topics_of(prefix))
    expected = [f"{word}-{i}" for word in ("login", "read", "get") for i in range(200)]
    assert sorted(event["event_id"] for _, event in found) == sorted(expected)
    for record, event in found:
        assert record.topic == f"{prefix}.{event['kind']}"
        assert record.key == event["tenant_id"].encode()
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % PARTITIONS
    for kind in KINDS:
        values = [record.value for record, event in found if event["kind"] == kind]
        assert not parse(kind, values).rejections
    assert len({(record.topic, record.partition, record.offset) for record, _ in found}) < 600  # arrays


def test_the_largest_event_arrives(broker: EmbeddedKafka, prefix: str) -> None:
    """An event of exactly 1 MiB passes every limit on the way."""
    with Emitter(broker.bootstrap, "billing-api", topic_prefix=prefix) as audit:
        fields = {"event_id": "e1", "time": VALID["time"], "user_agent": ""}
        smallest = len(encode("auth", {**VALID, **fields}))
        login(audit, **{**fields, "user_agent": "x" * (MAX_EVENT_BYTES - smallest)})
        login(audit, event_id="e2")
    ((record, _),) = (
        found for found in read(broker.bootstrap, topics_of(prefix)) if found[1]["event_id"] == "e1"
    )
    assert len(record.value) == MAX_EVENT_BYTES
    assert audit.stats().sent == 2


DRIVEN = """
import sys
from tenantwatch_emitter import Emitter
audit = Emitter(sys.argv[1], service="billing-api")
for command in sys.stdin:
    if command.strip() == "emit":
        print(audit.auth("tenant-a", action="login", outcome="failure"), flush=True)
    else:
        print(audit.flush(60), audit.stats().sent, flush=True)
"""


def test_a_kafka_that_comes_late_and_goes_away_loses_nothing(tmp_path: Path) -> None:
    """Events wait for the broker, for its topics, and for its return; each arrives once."""
    port = free_port()
    broker = EmbeddedKafka(BrokerConfig(tmp_path, port=port, controller_port=0))
    # In a process of its own, because kafka-python leaves refused sockets to the garbage collector.
    with subprocess.Popen(
        [sys.executable, "-c", DRIVEN, f"127.0.0.1:{port}"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as service:
        stdin, stdout = service.stdin, service.stdout
        assert stdin
        assert stdout

        def tell(command: str) -> str:
            stdin.write(command + "\n")
            stdin.flush()
            return stdout.readline().strip()

        try:
            sent = [tell("emit") for _ in range(3)]
            broker.start()
            sent += [tell("emit") for _ in range(3)]
            create_topics(broker.bootstrap)
            assert tell("flush") == "True 6"
            broker.stop()
            sent += [tell("emit") for _ in range(3)]
            broker.start()
            assert tell("flush") == "True 9"
            assert ids(broker.bootstrap) == sorted(sent)
        finally:
            broker.stop()


def test_a_lost_answer_does_not_double_an_event(
    broker: EmbeddedKafka, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that Kafka got, but did not answer in time, is sent again and stored once."""
    caplog.set_level(logging.WARNING)
    pid = json.loads((broker.log_path.parent / "pid.json").read_text())["pid"]
    with Emitter(
        broker.bootstrap, "billing-api", topic_prefix=prefix, request_timeout_ms=1000, linger_ms=0
    ) as audit:
        sent = [login(audit)]
        assert audit.flush(DEADLINE_S)
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # or it may still answer
        try:
            sent.append(login(audit))
            deadline = time.monotonic() + DEADLINE_S
            while "retrying" not in caplog.text:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert audit.flush(DEADLINE_S)
    assert ids(broker.bootstrap, topics_of(prefix)) == sorted(sent)


def test_a_missing_topic_holds_up_its_own_events_only(broker: EmbeddedKafka) -> None:
    """Other events arrive meanwhile, and its own as soon as the topic is there; it is never created."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    create_topics(broker.bootstrap, [f"{prefix}.access"])
    audit = Emitter(broker.bootstrap, "billing-api", topic_prefix=prefix, max_block_ms=500)
    try:
        sent = [login(audit), audit.access("tenant-a", action="read", outcome="success")]
        deadline = time.monotonic() + DEADLINE_S
        while audit.stats().sent < 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert audit.stats().queued == 1
        create_topics(broker.bootstrap, [f"{prefix}.auth"])
        assert audit.flush(DEADLINE_S)
        assert ids(broker.bootstrap, [f"{prefix}.auth", f"{prefix}.access"]) == sorted(sent)
    finally:
        audit.close(timeout_s=0)


def test_a_topic_with_a_low_limit_gets_events_one_by_one(broker: EmbeddedKafka) -> None:
    """An array too large is sent as its events; only an event too large by itself is given up."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics(
        [NewTopic(f"{prefix}.auth", PARTITIONS, 1, topic_configs={"max.message.bytes": "20000"})]
    )
    admin.close()
    with Emitter(
        broker.bootstrap, "billing-api", topic_prefix=prefix, batch_size=1000, linger_ms=200
    ) as audit:
        sent = [login(audit, user_agent="x" * 2000) for _ in range(30)]
        login(audit, user_agent="x" * 30_000)
        assert audit.flush(DEADLINE_S)
    assert audit.stats() == (30, 0, 0, 1, 0)
    assert ids(broker.bootstrap, [f"{prefix}.auth"]) == sorted(sent)


SERVICE = """
import sys
from tenantwatch_emitter import Emitter
audit = Emitter(sys.argv[1], service="billing-api", topic_prefix=sys.argv[2])
print(audit.auth("tenant-a", action="login", outcome="failure", user_id="s3cret-ana", source_ip="192.0.2.7"))
"""


def test_a_process_that_ends_flushes(broker: EmbeddedKafka, prefix: str) -> None:
    """Three lines and no more: the event of a short script arrives."""
    ended = run(SERVICE, broker.bootstrap, prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ids(broker.bootstrap, topics_of(prefix)) == [ended.stdout.strip()]


ABSENT = """
import logging, threading
from tenantwatch_emitter import Emitter
logging.getLogger("kafka").disabled = True
audit = Emitter("127.0.0.1:1", service="billing-api", exit_timeout_s=0.2)
assert threading.active_count() == 1
audit.auth("tenant-a", action="login", outcome="failure", user_id="s3cret-ana")
assert audit.stats().queued == 1
assert not audit.flush(0.01)
"""


def test_an_absent_kafka_stops_neither_a_service_nor_its_exit() -> None:
    """Nothing connects before the first event; what cannot be delivered is given up with a message."""
    ended = run(ABSENT)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.startswith("events_lost count=1 ")
    assert len(ended.stderr.splitlines()) == 1


def test_no_event_ends_in_the_log(broker: EmbeddedKafka, prefix: str) -> None:
    """Not even where the service logs everything at DEBUG, as kafka-python would."""
    ended = run(
        "import logging; logging.basicConfig(level=logging.DEBUG)" + SERVICE, broker.bootstrap, prefix
    )
    assert "kafka" in ended.stderr
    assert "s3cret" not in ended.stderr
    assert ids(broker.bootstrap, topics_of(prefix)) == [ended.stdout.strip()]


FORKING = """
import os, sys
from tenantwatch_emitter import Emitter
audit = Emitter(sys.argv[1], service="billing-api", topic_prefix=sys.argv[2], linger_ms=200)

def login(event_id):
    audit.auth("tenant-a", action="login", outcome="success", event_id=event_id)

login("connected")
assert audit.flush(60)
login("queued")
children = []
for i in range(3):
    child = os.fork()
    if child == 0:
        assert audit.stats() == (0, 0, 0, 0, 0), audit.stats()
        login(f"child-{i}")
        sys.exit()
    children.append(child)
login("parent")
for child in children:
    assert os.waitpid(child, 0)[1] == 0
assert audit.flush(60)
login("later")
"""


def test_forked_children_send_their_own_events(broker: EmbeddedKafka, prefix: str) -> None:
    """A preforking server's parent and children each deliver what they queued, once."""
    ended = run(FORKING, broker.bootstrap, prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    expected = ["child-0", "child-1", "child-2", "connected", "later", "parent", "queued"]
    assert ids(broker.bootstrap, topics_of(prefix)) == expected


@pytest.mark.parametrize("module", [delivery, emitter, events, validation])
def test_the_examples_in_the_documentation_run(module: ModuleType) -> None:
    """What a docstring shows is what happens."""
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
