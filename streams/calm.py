"""Which records can wait for more: logins that go well, and a failure now and then (docs/decisions/0024)."""

from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from faust.types import TP

from streams.topics import TOPIC_OF

LOGINS: Final = TOPIC_OF["auth"]
# So long they wait, or until there are so many in one fetch.
CALM_S: Final = 0.2
MAX_RECORDS: Final = 1_000
# Whoever guesses more slowly than that is not stopped in the fifth of a second either.
APART_S: Final = 2.0
# Of so many tenants the last failure is known.
MAX_TENANTS: Final = 10_000


class Calm:
    """Knows when each tenant's logins last failed, by the message's key: nothing is parsed for it."""

    def __init__(self) -> None:
        self._failed_s: dict[bytes | None, float] = {}

    def can_wait(self, found: Mapping[TP, list[Any]]) -> bool:
        """Return whether what was fetched can wait for more.

        Parameters
        ----------
        found
            By partition, records as Kafka's client has them; each is to be shown once.
        """
        if not all(tp.topic == LOGINS and len(some) < MAX_RECORDS for tp, some in found.items()):
            return False
        keys = [record.key for some in found.values() for record in some if _failed(record.value or b"")]
        if not keys:
            return True
        now_s = monotonic()
        apart = len(keys) == len(set(keys)) and not any(
            now_s - self._failed_s.get(key, -inf) < APART_S for key in keys
        )
        if len(self._failed_s) > MAX_TENANTS:
            self._failed_s.clear()
        self._failed_s.update(dict.fromkeys(keys, now_s))
        return apart


def _failed(value: bytes) -> bool:
    """Return whether any event of a message failed, or might have."""
    return b'"failure"' in value or b'"success"' not in value
