"""Networks and places: addresses that one customer of a provider usually has all of."""

from functools import lru_cache
from ipaddress import IPv6Network
from typing import Final

from detectors.columns import Hashed

# What providers route as one, for IPv4; and for IPv6, what is one link's, and the most that one customer is
# handed out (RFC 6177).
IPV4: Final = ".0/24"
IPV6: Final = "/64"
WIDE_IPV6: Final = "/48"


def network_of(address: str) -> str:
    """Return the /24 or /64 that an address is in.

    >>> network_of("192.0.2.7"), network_of("2001:db8::1:2:3:4")
    ('192.0.2.0/24', '2001:db8::/64')
    """
    return _network_of(address, IPV6)


def wide_network_of(address: str) -> str:
    """Return the network that a person's address is likely to move within: a /24 or a /48.

    >>> wide_network_of("192.0.2.77"), wide_network_of("2001:db8:1:2::7")
    ('192.0.2.0/24', '2001:db8:1::/48')
    """
    return _network_of(address, WIDE_IPV6)


def place_of(address: str) -> str:
    """Return what stays the same of an address while its owner does: of IPv6 the /64.

    With IPv6 a device gives itself another address in its network every day (RFC 8981), so that one from
    which a user never came says nothing.

    >>> place_of("192.0.2.7"), place_of("2001:db8::1:2:3:4")
    ('192.0.2.7', '2001:db8::/64')
    """
    return address if ":" not in address else _ipv6_network(address, IPV6)


def places(addresses: Hashed) -> Hashed:
    """Return a column of addresses as places; the same column where they are the same.

    >>> places(Hashed(["192.0.2.7", None, "2001:db8::1:2:3:4"])).values
    ['192.0.2.7', None, '2001:db8::/64']
    """
    values = list(addresses.values)
    # All at once: mostly there is none of IPv6.
    if ":" not in " ".join(filter(None, values)):
        return addresses
    return Hashed([value and place_of(value) for value in values])


def _network_of(address: str, ipv6: str) -> str:
    # Nearly all are of IPv4, and a hundred times quicker without parsing.
    return address.rpartition(".")[0] + IPV4 if ":" not in address else _ipv6_network(address, ipv6)


@lru_cache(65_536)
def _ipv6_network(address: str, prefix: str) -> str:
    return str(IPv6Network(address + prefix, strict=False))
