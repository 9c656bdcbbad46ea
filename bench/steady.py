"""Steady traffic with planted attacks, from a process of its own: ``python -m bench.steady BOOTSTRAP …``.

Services send an event when something happens, so each event is a message, and what falls due is sent every
few milliseconds. An attack is six failed logins from an address of its own; one of them crosses the threshold
of `failed_login`. Their event ids say when they were sent: ``attack-NUMBER-NANOSECONDS``.
Prints one line of JSON at the end.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any, Final

from confluent_kafka import Producer

from bench.traffic import tenants
from schemas.event import KINDS, Kind
from streams.topics import TENANTS, TOPIC_OF

ATTACK: Final = "attack-"
FAILURES: Final = 6
FAILURE_GAP_S: Final = 0.1
TICK_S: Final = 0.002
FAILED_SHARE: Final = 0.02

_REST: Final[dict[Kind, str]] = {
    "auth": '"action":"login","auth_method":"password"',
    "access": '"action":"read","permission":"jobs:read","resource_type":"job","resource_id":"job-17"',
    "request": (
        '"http_method":"GET","http_route":"/v1/jobs/{id}","http_path":"/v1/jobs/17",'
        '"http_status":200,"duration_ms":12.5'
    ),
}
_SUCCESS: Final = '"success"'
_FAILURE: Final[dict[Kind, str]] = {
    "auth": '"failure","reason":"bad_password"',
    "access": '"failure","reason":"missing_permission"',
    "request": '"failure","reason":"server_error"',
}


def event_of(user: int, tenant_id: str, kind: Kind, event_id: str, time_text: str, failed: bool) -> str:
    """Return an event as JSON; everything but its id, time and outcome depends on the user alone."""
    return (
        f'{{"event_id":"{event_id}","kind":"{kind}","tenant_id":"{tenant_id}","time":"{time_text}",'
        f'"service":"service-{user % 7}","user_id":"user-{user}",'
        f'"source_ip":"10.{user >> 16 & 255}.{user >> 8 & 255}.{user & 255}",'
        f'"user_agent":"Mozilla/5.0 (X11; Linux x86_64) Client/{user % 40}","session_id":"session-{user}",'
        f'"outcome":{_FAILURE[kind] if failed else _SUCCESS},{_REST[kind]}}}'
    )


def now_text() -> str:
    """Return the wall clock as the contract writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Attacks:
    """Attacks that begin at a steady rate, at moments that have nothing to do with the ticks.

    Parameters
    ----------
    per_s
        How many begin a second.
    tenant_ids
        Whose logins are attacked, in turn.
    first_user
        The first victim; each attack has one of its own, and an address of its own.
    """

    def __init__(self, per_s: float, tenant_ids: list[str], first_user: int, draw: random.Random) -> None:
        self._gap_s = 1 / per_s if per_s else float("inf")
        self._tenant_ids = tenant_ids
        self._first_user = first_user
        self._draw = draw
        self._due: list[tuple[float, int, int]] = []
        self.begun = 0

    def due(self, elapsed_s: float) -> Iterator[tuple[str, str]]:
        """Yield tenant and event of the failures that are due; made at the last moment."""
        while (self.begun + 1) * self._gap_s <= elapsed_s:
            begin_s = elapsed_s + self._draw.random() * self._gap_s
            for i in range(FAILURES):
                heappush(self._due, (begin_s + i * FAILURE_GAP_S, self.begun, i))
            self.begun += 1
        while self._due and self._due[0][0] <= elapsed_s:
            _, number, _ = heappop(self._due)
            tenant_id = self._tenant_ids[number % len(self._tenant_ids)]
            event_id = f"{ATTACK}{number}-{time.time_ns()}"
            user = self._first_user + number
            yield tenant_id, event_of(user, tenant_id, "auth", event_id, now_text(), failed=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Send for as long as asked and return what was sent."""
    draw = random.Random(given.seed)
    producer = Producer(
        {
            "bootstrap.servers": given.bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "acks": "1",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    names = [tenant.tenant_id for tenant in tenants(given.tenants)]
    for tenant in tenants(given.tenants):
        producer.produce(TENANTS, tenant.model_dump_json(), tenant.tenant_id)
    producer.flush()
    attacks = Attacks(given.attacks_per_s, given.attack or names, given.users, draw)
    step, first = (1, 0) if given.only is None else (given.tenants, given.only)
    produce, chance, people = producer.produce, draw.random, range(first, given.users, step)
    choice = draw.choice
    sent, failures, behind_s = 0, 0, 0.0
    began = time.perf_counter()
    while (elapsed_s := time.perf_counter() - began) < given.seconds:
        text = now_text()
        for i in range(sent, int(elapsed_s * given.rate)):
            user, kind = choice(people), KINDS[i % 3]
            tenant_id = names[user % given.tenants]
            failed = chance() < FAILED_SHARE
            produce(
                TOPIC_OF[kind],
                event_of(user, tenant_id, kind, f"{given.seed:x}-{i:x}", text, failed),
                tenant_id,
            )
        sent = max(sent, int(elapsed_s * given.rate))
        for tenant_id, value in attacks.due(elapsed_s):
            produce(TOPIC_OF["auth"], value, tenant_id)
            failures += 1
        producer.poll(0)
        late_s = time.perf_counter() - began - elapsed_s
        behind_s = max(behind_s, late_s)
        time.sleep(max(TICK_S - late_s, 0.0))
    producer.flush()
    return {"sent": sent + failures, "attacks": attacks.begun, "longest_tick_ms": round(behind_s * 1000, 1)}


def arguments() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("--rate", type=float, default=5_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--attacks-per-s", type=float, default=4)
    parser.add_argument("--tenants", type=int, default=300)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--only", type=int, help="number of the one tenant that there is traffic of")
    parser.add_argument("--attack", nargs="+", default=[], help="tenants that are attacked; all of them")
    parser.add_argument("--seed", type=int, default=7)
    return parser


if __name__ == "__main__":
    print(json.dumps(run(arguments().parse_args())), flush=True)
