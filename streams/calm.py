"""Which records can wait for more: most logins, and failures by address (docs/decisions/0031)."""

from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from faust.types import TP

from streams.topics import FAILURES_BY_IP, TOPIC_OF

LOGINS: Final = TOPIC_OF["auth"]
# So long they wait, or until there is so much.
CALM_S: Final = 0.2
MAX_RECORDS: Final = 1_000
MAX_BYTES: Final = 1024 * 1024
# Whoever guesses more slowly than so often in so long is not stopped in the fifth of a second either.
CROWD: Final = 3
APART_S: Final = 2.0
# Of so many tenants the last failures are known.
MAX_TENANTS: Final = 10_000


class Calm:
    """Knows when each tenant's logins last failed, by the message's key: nothing is parsed for it."""

    def __init__(self) -> None:
        # When the latest ones were, by the key's hash: a key may be as large as a message.
        self._failed_s: dict[int, list[float]] = {}

    def can_wait(self, found: Mapping[TP, list[Any]]) -> bool:
        """Return whether what was fetched can wait for more.

        Parameters
        ----------
        found
            By partition, records as Kafka's client has them; each is to be shown once.
        """
        now_s, crowded = monotonic(), False
        if len(self._failed_s) > MAX_TENANTS:
            self._failed_s.clear()
        for tp, some in found.items():
            for record in some if tp.topic == LOGINS else ():
                if count := _failures(record.value or b""):
                    failed_s = self._failed_s.setdefault(hash(record.key), [-inf] * CROWD)
                    failed_s += [now_s] * min(count, CROWD)
                    del failed_s[:-CROWD]
                    crowded |= now_s - failed_s[0] < APART_S
        # What comes back by address was judged in its tenant; now it is compared with an hour's.
        return not crowded and all(tp.topic in (LOGINS, FAILURES_BY_IP) for tp in found)


def _failures(value: bytes) -> int:
    """Return how many events of a message failed; what says of none how it went counts as one."""
    return value.count(b'"failure"') or int(b'"success"' not in value)
