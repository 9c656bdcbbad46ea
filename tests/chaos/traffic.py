"""What is sent: a plan of messages that depends on the seed alone.

Each tenant has a clock of its own, which runs on with its events and leaps ahead now and then, so that
episodes end and others begin. How fast messages are sent has no influence on what they say.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from schemas.alert import from_ms, rfc3339
from schemas.event import KINDS, Kind
from schemas.tenant import Contact, RateLimit, Tenant
from streams.topics import TOPIC_OF, partition_of
from tests.chaos.attacks import ACCESS, ATTACKS, LOGIN, REQUEST, RIGHT, WRONG, Fields

START_MS: Final = 1_736_150_400_000  # Monday 2025-01-06, 08:00 UTC
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
# Which producer carries a tenant's messages: one alone, or they could overtake each other.
LANES: Final = ("lz4", "zstd", "transactions")
TRANSACTIONS: Final = "transactions"
PEOPLE: Final = 12
# Ids of events that must not be stored begin so; it is how `topics` knows them in the topics afterwards.
BAD: Final = "bad-"

LEAP: Final = 1 / 150
ATTACK_BEGINS: Final = 1 / 25
ATTACK_GOES_ON: Final = 0.35
ARRAY: Final = 0.15
REPEATED: Final = 0.005
INVALID: Final = 0.004
LATE: Final = 0.004
MISPLACED: Final = 0.001
OUT_OF_ORDER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message.

    Parameters
    ----------
    lane
        Of `LANES`.
    partition
        None: where its key belongs.
    events
        How many events it holds that must be stored.
    """

    lane: str
    topic: str
    key: str
    value: bytes | None
    events: int
    partition: int | None = None


@dataclass
class Plan:
    """Tenants and their messages.

    Parameters
    ----------
    seed
        All chance comes from it.
    partitions
        Of each event topic; each has one tenant of every lane.
    """

    seed: int
    partitions: int = 12
    _lives: list["_Life"] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        homes: dict[int, int] = dict.fromkeys(range(self.partitions), 0)
        number = 0
        while len(self._lives) < self.partitions * len(LANES):
            tenant_id = f"tenant-{number}"
            home = partition_of(tenant_id.encode(), self.partitions)
            if homes[home] < len(LANES):
                self._lives.append(_Life(self.seed, tenant_id, LANES[homes[home]], home, self.partitions))
                homes[home] += 1
            number += 1

    @property
    def tenant_ids(self) -> list[str]:
        """Every tenant."""
        return [life.tenant_id for life in self._lives]

    def messages(self, events: int) -> Iterator[Message]:
        """Yield messages until so many events were sent, a few more to fill the last arrays."""
        draw = Random(f"{self.seed}/order")
        sent = 0
        while sent < events:
            for message in draw.choice(self._lives).live():
                sent += message.events
                yield message
        for life in self._lives:
            yield from life.flush()

    def finale(self) -> Iterator[Message]:
        """Yield what ends every episode: for each tenant an event of each kind, hours later.

        On one lane and to be sent after everything else was acknowledged; so every partition ends with a
        message and not with the marker of a transaction, and a worker's lag can become 0.
        """
        for life in self._lives:
            yield from life.end()


def tenant(tenant_id: str, version: int = 0) -> Tenant:
    """Return a tenant's settings; versions differ in what no detector looks at."""
    return Tenant(
        tenant_id=tenant_id,
        organization_id=f"organization-of-{tenant_id}",
        name=f"{tenant_id} for the {version}th time",
        tier="standard",
        rate_limit=RateLimit(requests=25, window_s=900),
        detectors={
            "access_anomaly": {
                "tenant_habit_min": 15,
                "user_habit_min": 2,
                "denied": 8,
            },
            "budget": {"false_alarms_per_week": 250},
        },
        contacts=[Contact(name=f"Contact {version}", email=f"contact-{version}@example.com")],
    )


class _Life:
    """One tenant's people, and whoever attacks them."""

    def __init__(self, seed: int, tenant_id: str, lane: str, home: int, partitions: int) -> None:
        self.tenant_id = tenant_id
        self._lane = lane
        self._astray = (home + 1) % partitions
        self._draw = Random(f"{seed}/{tenant_id}")
        self._clock_ms = START_MS + self._draw.randrange(HOUR_MS)
        self._number = 0
        self._attack: Iterator[Fields] | None = None
        # Arrays that wait to be full, by kind.
        self._waiting: dict[Kind, list[Fields]] = {kind: [] for kind in KINDS}
        self._wanted: dict[Kind, int] = dict.fromkeys(KINDS, 1)
        # Messages to be sent a second time, as a producer does that missed the answer.
        self._again: list[tuple[int, Message]] = []

    def live(self) -> Iterator[Message]:
        """Let one event happen; yield what is to be sent now."""
        self._pass_time()
        event = self._event(self._next())
        kind: Kind = event["kind"]
        self._waiting[kind].append(event)
        if len(self._waiting[kind]) >= self._wanted[kind]:
            yield from self._send(kind)
        if self._draw.random() < INVALID:
            yield self._invalid()
        if self._draw.random() < MISPLACED:
            yield self._misplaced()
        while self._again and self._again[0][0] <= self._number:
            yield self._again.pop(0)[1]

    def flush(self) -> Iterator[Message]:
        """Yield what still waits for its array to be full, and for its repetition."""
        for kind in KINDS:
            if self._waiting[kind]:
                yield from self._send(kind)
        while self._again:
            yield self._again.pop(0)[1]

    def end(self) -> Iterator[Message]:
        self._clock_ms += 6 * HOUR_MS
        for kind in KINDS:
            self._clock_ms += MINUTE_MS
            event = self._event(self._ordinary(kind), in_order=True)
            yield Message(LANES[0], TOPIC_OF[kind], self.tenant_id, _json(event), 1)

    def _pass_time(self) -> None:
        draw = self._draw
        if draw.random() < LEAP:
            self._clock_ms += draw.randint(45, 240) * MINUTE_MS
        else:
            self._clock_ms += int(draw.expovariate(1 / 2_500))

    def _next(self) -> Fields:
        draw = self._draw
        if self._attack is None and draw.random() < ATTACK_BEGINS:
            other = "tenant-" + str(draw.randrange(1_000, 2_000))
            self._attack = draw.choice(ATTACKS)(draw, f"user-{draw.randrange(PEOPLE)}", other)
        if self._attack is not None and draw.random() < ATTACK_GOES_ON:
            fields = next(self._attack, None)
            if fields is not None:
                return fields
            self._attack = None
        return self._ordinary(draw.choices(KINDS, (3, 4, 3))[0])

    def _ordinary(self, kind: Kind) -> Fields:
        draw = self._draw
        person = draw.randrange(PEOPLE)
        who = {"user_id": f"user-{person}", "source_ip": f"192.0.2.{person}", "user_agent": "curl/8.5.0"}
        if kind == "auth":
            return {**LOGIN, **who, **(WRONG if draw.random() < 0.05 else RIGHT)}
        if kind == "access":
            action = draw.choice(("read", "update"))
            what = {"action": action, "permission": f"jobs:{action}", "resource_id": f"job-{person}"}
            return {**ACCESS, **who, **what, **RIGHT}
        spent = {"duration_ms": round(draw.expovariate(1 / 40), 1), "http_status": 200}
        return {**REQUEST, **who, **spent, **RIGHT}

    def _event(self, fields: Fields, *, in_order: bool = False) -> Fields:
        draw = self._draw
        time_ms = self._clock_ms
        if not in_order:
            if draw.random() < LATE:
                time_ms -= draw.randint(1, 72) * HOUR_MS
            elif draw.random() < OUT_OF_ORDER:
                time_ms -= draw.randrange(MINUTE_MS)
        self._number += 1
        return {
            "event_id": f"{self.tenant_id}-{self._number:06}",
            "tenant_id": self.tenant_id,
            "time": rfc3339(from_ms(time_ms)),
            **fields,
        }

    def _send(self, kind: Kind) -> Iterator[Message]:
        draw = self._draw
        events, self._waiting[kind] = self._waiting[kind], []
        self._wanted[kind] = draw.randint(2, 30) if draw.random() < ARRAY else 1
        message = self._message(kind, events)
        yield message
        if draw.random() < REPEATED:
            self._again.append((self._number + draw.randrange(20), message))
            self._again.sort(key=lambda pair: pair[0])

    def _message(self, kind: Kind, events: Sequence[Fields], partition: int | None = None) -> Message:
        value = _json(events[0] if len(events) == 1 else list(events))
        good = sum(not event["event_id"].startswith(BAD) for event in events)
        return Message(self._lane, TOPIC_OF[kind], self.tenant_id, value, good, partition)

    def _misplaced(self) -> Message:
        # A service and partition of its own: its alert, one for each day, is made where it arrives.
        event = self._event({**self._ordinary("auth"), "service": "legacy"})
        return self._message("auth", [event], self._astray)

    def _invalid(self) -> Message:
        draw = self._draw
        kind = draw.choice(KINDS)
        topic = TOPIC_OF[kind]

        def bad(**changed: Any) -> Fields:
            event = self._event(self._ordinary(kind))
            return {**event, "event_id": BAD + event["event_id"], **changed}

        sort = draw.randrange(6)
        if sort == 0:
            return Message(self._lane, topic, self.tenant_id, b'{"event_id": "bad', 0)
        if sort == 1:
            return Message(self._lane, topic, self.tenant_id, None, 0)
        if sort == 2:
            return self._message(kind, [bad(source_ip="nowhere")])
        if sort == 3:
            return self._message(kind, [bad(tenant_id="tenant-another")])
        if sort == 4:
            return Message(self._lane, topic, "tenant-nobody", _json(bad(tenant_id="tenant-nobody")), 0)
        good = [self._event(self._ordinary(kind)) for _ in range(2)]
        return self._message(kind, [good[0], bad(time="yesterday"), good[1]])


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
