"""The latest event ids, as numbers: the ids themselves would take ten times the memory."""

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import shake_256
from typing import Final

import numpy as np

from detectors.numbers import UInt64s, first_of_each
from schemas.batch import Bools, Column, EventBatch, Int64s
from schemas.columns import padded_texts

# Two generations of event ids: at least so many of the latest are known, at most twice as many are kept.
# A producer retries within a request's time-out, far fewer events ago.
GENERATION: Final = 16_384

_PART_BYTES: Final = 2
# An id has 64 characters at most, a tenant's name as well, of up to four bytes; and there is the length.
_PARTS: Final = 64 * 4 // _PART_BYTES + 1


@dataclass
class KnownIds:
    """Event ids by tenant: at least the latest `GENERATION` of them.

    Parameters
    ----------
    salt
        What the numbers are made with. It is Python's own, new in every process and nobody's to know, so that
        nobody can choose ids which are taken for others'; and it is saved, because the numbers are.
    latest, earlier
        Numbers of ids, ascending; a generation is replaced when it is full. With a few thousand of them
        looking one up by bisection is as quick as in a hash table, which would take twice the memory.
    """

    salt: int = field(default_factory=lambda: hash("event_id"))
    latest: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    earlier: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, batch: EventBatch) -> Bools:
        """Return ``(n,)`` which events' ids were known or came before in the batch; all are known now."""
        prints = self._prints(batch)
        repeated = np.ones(len(prints), np.bool_)
        at = 0
        while at < len(prints):
            rest = prints[at:]
            unknown = (~(_among(rest, self.latest) | _among(rest, self.earlier))).nonzero()[0]
            fresh = unknown[first_of_each(rest[unknown])]
            # At exact counts, not at the ends of batches: what is a repeat must not depend on these.
            room = GENERATION - len(self.latest)
            full = len(fresh) >= room
            fresh = fresh[:room]
            added = np.sort(rest[fresh])
            self.latest = np.insert(self.latest, np.searchsorted(self.latest, added), added)
            repeated[at + fresh] = False
            if not full:
                break
            self.earlier, self.latest = self.latest, self.latest[:0]
            at += int(fresh[-1]) + 1
        return repeated

    def _prints(self, batch: EventBatch) -> Int64s:
        """Return ``(n,)`` a number for the tenant and id of each event.

        It is a sum of random multiples of all their parts (multilinear hashing, Carter and Wegman 1979): two
        different ones have the same with a probability of 2**-47 at most, mostly 2**-62.
        """
        names = batch.tenant.values
        tenants = np.fromiter((_print_of(self.salt, name) for name in names), np.uint64, len(names))
        prints = _summed(batch.columns["event_id"], _multipliers(self.salt)[_PARTS:])
        prints += tenants[batch.tenant.codes]
        prints >>= np.uint64(1)
        return prints.view(np.int64)


def _among(numbers: Int64s, ascending: Int64s) -> Bools:
    if not len(ascending):
        return np.zeros(len(numbers), np.bool_)
    places = np.searchsorted(ascending, numbers)
    found: Bools = ascending[np.minimum(places, len(ascending) - 1)] == numbers
    return found


def _summed(texts: Column, multipliers: UInt64s) -> UInt64s:
    padded, lengths = padded_texts(texts)
    # Halves of words: the fewer bits a part has, the more of its multiple are as good as random.
    parts = padded.view(np.uint16).astype(np.uint64)
    # "a" and "a\0" are two ids: the length counts as well.
    sums: UInt64s = parts @ multipliers[: parts.shape[1]]
    sums += lengths.astype(np.uint64) * multipliers[-1]
    return sums


@lru_cache(maxsize=1 << 16)
def _print_of(salt: int, tenant_id: str) -> int:
    return int(_summed([tenant_id], _multipliers(salt)[:_PARTS])[0])


@lru_cache(maxsize=1 << 10)
def _multipliers(salt: int) -> UInt64s:
    """Return random numbers, those for tenants before those for ids."""
    return np.frombuffer(shake_256(str(salt).encode()).digest(2 * 8 * _PARTS), "<u8")
