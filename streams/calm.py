"""Which records can wait for more: logins that go well, and a failure now and then (docs/decisions/0031)."""

from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from faust.types import TP

from streams.topics import TOPIC_OF

LOGINS: Final = TOPIC_OF["auth"]
# So long they wait, or until there is so much.
CALM_S: Final = 0.2
MAX_RECORDS: Final = 1_000
MAX_BYTES: Final = 1024 * 1024
# Whoever guesses more slowly than that is not stopped in the fifth of a second either.
APART_S: Final = 2.0
# Of so many tenants the last failure is known.
MAX_TENANTS: Final = 10_000


class Calm:
    """Knows when each tenant's logins last failed, by the message's key: nothing is parsed for it."""

    def __init__(self) -> None:
        # By the key's hash: a key may be as large as a message.
        self._failed_s: dict[int, float] = {}

    def can_wait(self, found: Mapping[TP, list[Any]]) -> bool:
        """Return whether what was fetched can wait for more.

        Parameters
        ----------
        found
            By partition, records as Kafka's client has them; each is to be shown once.
        """
        if not all(tp.topic == LOGINS for tp in found):
            return False
        failures = [
            (hash(record.key), count)
            for some in found.values()
            for record in some
            if (count := _failures(record.value or b""))
        ]
        now_s = monotonic()
        tenants = {tenant for tenant, _ in failures}
        apart = sum(count for _, count in failures) == len(tenants) and not any(
            now_s - self._failed_s.get(tenant, -inf) < APART_S for tenant in tenants
        )
        if len(self._failed_s) > MAX_TENANTS:
            self._failed_s.clear()
        self._failed_s.update(dict.fromkeys(tenants, now_s))
        return apart


def _failures(value: bytes) -> int:
    """Return how many events of a message failed; what says of none how it went counts as one."""
    return value.count(b'"failure"') or int(b'"success"' not in value)
