"""What is counted by address: refused credentials, and requests of nobody."""

import hashlib
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from api.v1.limits import RateLimiter, Verdict
from schemas.tenant import RateLimit

# Whoever has one address of a /64 has them all: it is what a provider gives to one customer at least.
IPV6_PREFIX: Final = 64
# So many times the limit of refused credentials are looked up at all, for the sake of good ones among them.
LOOKED_UP: Final = 10
MAX_KNOWN: Final = 50_000
# An access token ends after a quarter of an hour: whoever goes on has used its refresh token by then.
KNOWN_S: Final = 3_600.0


class Known(NamedTuple):
    """Credentials that were good: when, of whom, for which tenants."""

    good_s: float
    subject: str
    tenants: tuple[str, ...]


def network_of(address: str | None) -> str:
    """Return what an address counts as.

    >>> network_of("192.0.2.1"), network_of("::ffff:192.0.2.1"), network_of("2001:db8::1:0:0:0:1")
    ('192.0.2.1', '192.0.2.1', '2001:db8:0:1::/64')
    """
    try:
        read = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:  # a UNIX socket
        return address or ""
    if isinstance(read, ipaddress.IPv4Address):
        return str(read)
    if read.ipv4_mapped is not None:
        return str(read.ipv4_mapped)
    return str(ipaddress.ip_network((read, IPV6_PREFIX), strict=False))


class Addresses:
    """Counts by address, for the gate, which refuses, and for the trail, which is not to be filled.

    Parameters
    ----------
    failures
        Refused credentials of an address.
    strangers
        Requests of an address that nobody was behind.
    monotonic_s
        The clock.
    """

    def __init__(self, failures: RateLimit, strangers: RateLimit, monotonic_s: Callable[[], float]) -> None:
        self._failure_limit = failures
        self._lookup_limit = failures.model_copy(update={"requests": LOOKED_UP * failures.requests})
        self._stranger_limit = strangers
        self._monotonic_s = monotonic_s
        self._failures = RateLimiter()
        self._lookups = RateLimiter()
        self._strangers = RateLimiter()
        self._told = RateLimiter()
        self._sign_ins = RateLimiter()
        # By hashes with a key of this process.
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._hash_key = secrets.token_bytes(32)

    def refused(self, address: str | None) -> Verdict:
        """Count refused credentials, and return whether the address may have them refused once more."""
        at, now_s = network_of(address), self._monotonic_s()
        self._lookups.take(at, self._lookup_limit, now_s)
        return self._failures.take(at, self._failure_limit, now_s)

    def looked_up(self, address: str | None, credentials: str) -> Verdict:
        """Return whether credentials are worth a look-up: what was good lately always is.

        So whoever shares an address with somebody who guesses goes on, and guesses cost the store no more
        than a multiple of the limit.
        """
        at, now_s = network_of(address), self._monotonic_s()
        verdict = self._lookups.look(at, self._lookup_limit, now_s)
        if verdict.allowed:
            return verdict
        good = self.known(address, credentials) is not None
        return Verdict(good, verdict.limit, verdict.remaining, verdict.reset_s)

    def known(self, address: str | None, credentials: str) -> Known | None:
        """Return whose credentials these were, if they were good lately: that they still are is not said."""
        known = self._known.get(self._hash(address, credentials))
        return known if known is not None and self._monotonic_s() - known.good_s <= KNOWN_S else None

    def good(self, address: str | None, credentials: str, subject: str, tenants: tuple[str, ...]) -> None:
        """Remember credentials that were good: a header, a secret of a form, a refresh token."""
        hashed = self._hash(address, credentials)
        self._known[hashed] = Known(self._monotonic_s(), subject, tenants)
        self._known.move_to_end(hashed)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _hash(self, address: str | None, credentials: str) -> bytes:
        # Of a signed request the scheme and the key's id, which all of its requests have in common. They are
        # no secret: elsewhere than where the key was good they are as good as any guess.
        common, signed, _ = credentials.partition(",")
        seen = f"{common},{network_of(address)}" if signed else common
        return hashlib.blake2b(seen.encode(), key=self._hash_key).digest()

    def sign_in(self, address: str | None) -> Verdict:
        """Return whether a sign-in may be ended: each asks the provider and the store."""
        return self._sign_ins.look(network_of(address), self._lookup_limit, self._monotonic_s())

    def sign_in_refused(self, address: str | None) -> None:
        """Count a sign-in that was refused."""
        self._sign_ins.take(network_of(address), self._lookup_limit, self._monotonic_s())

    def strange(self, address: str | None) -> Verdict:
        """Return whether a request of nobody may be answered."""
        return self._strangers.look(network_of(address), self._stranger_limit, self._monotonic_s())

    def to_be_told(self, address: str | None, *, limited: bool) -> bool:
        """Count a request that nobody was behind, and return whether it goes into the trail.

        Of those that are limited, or should have been, one in each window does.
        """
        at, now_s, limit = network_of(address), self._monotonic_s(), self._stranger_limit
        if not limited and self._strangers.take(at, limit, now_s).allowed:
            return True
        return self._told.take(at, limit.model_copy(update={"requests": 1}), now_s).allowed
