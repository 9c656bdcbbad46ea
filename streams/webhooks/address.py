"""Where a webhook may go: public addresses, and what the operator allows besides.

Tenants choose the URLs, so without this a webhook would be a way to make the worker call whatever only
the worker can reach. A name is resolved once, every address it gives must pass, and the sender dials those
very addresses: a name that answers differently the second time has no second time.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# Takes a host name and a port, gives addresses; raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

MAX_URL_LENGTH: Final = 2_048
FIRST_USER_PORT: Final = 1_024  # below, only 80 and 443: the others belong to mail, shells, directories, …

# The IANA registries of special-purpose addresses, written out: Python's own `is_global` has changed
# between patch releases.
_REFUSED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),  # Azure's, on a public address
        ("169.254.0.0/16", "link-local, where clouds keep their metadata service"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        # Forms that carry an IPv4 address are refused whatever they carry: no honest receiver has one.
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),  # holds fd00:ec2::254, a metadata service
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_IPV6: Final = ip_network("2000::/3")  # all that IANA has given out; the rest is refused too

_PRINTABLE: Final = re.compile(r"[!-~]+")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class UrlRefused(ValueError):
    """A webhook may not go to this URL; the message says why and what to change."""


@dataclass(frozen=True)
class Target:
    """A webhook's URL, taken apart once; `path` includes the query."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """Return the value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Take a URL apart.

    Raises
    ------
    UrlRefused
        If anything in it could be read in two ways, or it is not http or https.

    Examples
    --------
    >>> parse_url("https://hooks.example.com/a?b=c")
    Target(scheme='https', host='hooks.example.com', port=443, path='/a?b=c')
    """
    if len(url) > MAX_URL_LENGTH:
        raise UrlRefused(f"the URL is longer than {MAX_URL_LENGTH} characters")
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise UrlRefused(
            "the URL has a space, a backslash or a character that is not ASCII; percent-encode it, "
            "or write an international domain as xn--…"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UrlRefused(f"the URL cannot be read: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise UrlRefused("the URL must begin with https:// or http://")
    if "@" in parts.netloc:
        raise UrlRefused("the URL has a user or a password in it; receivers verify the signature instead")
    if "#" in url:
        raise UrlRefused("the URL has a fragment (#…), which is never sent; leave it out")
    if "[" in parts.netloc and ":" not in host:
        raise UrlRefused(f"the host [{host}] is not an IPv6 address")
    _check_host(host)
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    if port not in (80, 443) and port < FIRST_USER_PORT:
        raise UrlRefused(f"port {port} is not a web server's; use 80, 443 or {FIRST_USER_PORT} and up")
    query = f"?{parts.query}" if parts.query else ""
    return Target("https" if parts.scheme == "https" else "http", host, port, (parts.path or "/") + query)


def _check_host(host: str) -> None:
    if _literal(host) is not None:
        return
    labels = host.split(".")
    # What ends in a number is an IPv4 address to whoever dials it, in decimal, octal or hex, in one to
    # four parts; only the usual spelling passed above.
    if _NUMBER.fullmatch(labels[-1]):
        raise UrlRefused(f"the host {host!r} is an unusual spelling of an IP address; write it as a.b.c.d")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused(f"the host {host!r} is neither a host name nor an IP address")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def refusal(address: Address, allow: Sequence[Network] = ()) -> str | None:
    """Say what is wrong with an address, or None when a webhook may go there.

    Examples
    --------
    >>> refusal(ip_address("169.254.169.254"))
    'link-local, where clouds keep their metadata service'
    >>> refusal(ip_address("10.1.2.3"), [ip_network("10.1.0.0/16")])
    """
    if any(address in network for network in allow):
        return None
    for network, what in _REFUSED:
        if address in network:
            return what
    return "reserved" if address.version == 6 and address not in _GLOBAL_IPV6 else None


async def public_addresses(target: Target, resolve: Resolve, allow: Sequence[Network]) -> list[Address]:
    """Resolve a target, once, and return the addresses to dial.

    Raises
    ------
    UrlRefused
        If it does not resolve, or any of its addresses is refused: a name with one public and one
        private address has no use but to try its luck.
    """
    literal = _literal(target.host)
    if literal is not None:
        found = [literal]
    else:
        try:
            found = [ip_address(text) for text in await resolve(target.host, target.port)]
        except (OSError, ValueError):
            found = []
        if not found:
            raise UrlRefused(f"the host {target.host!r} does not resolve; check its spelling and DNS")
    for address in found:
        if what := refusal(address, allow):
            # The address of a name is not repeated: that would tell a tenant what is in our DNS.
            raise UrlRefused(
                f"the host {target.host!r} is at an address that is not public ({what}); if it must be "
                "reached, the operator names its network in TENANTWATCH_WEBHOOK_ALLOW"
            )
    return found


async def check_url(url: str, resolve: Resolve, allow: Sequence[Network] = ()) -> None:
    """Check a URL before it is stored, as every attempt will again.

    Raises
    ------
    UrlRefused
        If a webhook may not go there.
    """
    await public_addresses(parse_url(url), resolve, allow)
