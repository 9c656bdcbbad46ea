"""What settings may be beyond their types: each function returns the value, or says what is allowed.

Checked when a process starts, because a client that meets a wrong one later ends in a traceback, or does
nothing.
"""

import re
import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

_BROKER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?")
_MAX_PORT: Final = 65_535
_HERE: Final = ("127.0.0.1", "::1", "localhost")


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL that has a host, and a number as port if any."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def server_url(url: str) -> str:
    """Return the URL of a ClickHouse server; the message does not repeat it, for a password may be in it."""
    parts = _parts(url)
    # What looks like a fragment is the rest of a password.
    if parts is None or parts.fragment or parts.scheme not in ("http", "https"):
        raise ValueError(
            "must be http[s]://user:password@host:port/database; in a password write #, /, ?, @ and % as in "
            "every URL (%23, …), or set it apart"
        )
    return url


def brokers(text: str) -> str:
    """Return addresses of brokers, without blanks."""
    listed = [part.strip() for part in text.split(",")]
    found = [_BROKER.fullmatch(part) for part in listed]
    if not all(one and (one[1] is None or 0 < int(one[1]) <= _MAX_PORT) for one in found):
        raise ValueError("must be host:port[,host:port]")
    return ",".join(listed)


def authorities(path: Path) -> Path:
    """Return a file that has certificates of authorities."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    return path


def check_certificate(certificate: Path, key: Path | None) -> None:
    """Raise if a client's certificate and its key cannot be used."""
    try:
        # With a passphrase OpenSSL would ask for it at the terminal, at every start.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except OSError as error:  # which an SSLError is, too
        raise ValueError(
            f"TENANTWATCH_KAFKA_CERT_FILE={certificate} must hold a certificate in PEM, and it or "
            "TENANTWATCH_KAFKA_KEY_FILE the certificate's key, without a passphrase and readable"
        ) from error


def provider_url(url: str) -> str:
    """Return the URL of an OIDC provider: with TLS, or on this machine."""
    parts = _parts(url)
    local = parts is not None and parts.scheme == "http" and parts.hostname in _HERE
    if parts is None or not (parts.scheme == "https" or local):
        raise ValueError(
            "must be https://host[:port][/path], or http:// on this machine (127.0.0.1, [::1], localhost): "
            "whoever is in between would sign in as everybody"
        )
    return url


def role_map(text: str) -> Mapping[str, str]:
    """Return names of roles at a provider with ours."""
    from api.v1.permissions import ROLES

    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, _, role = map(str.strip, pair.partition("="))
        if not name or role not in ROLES:
            raise ValueError(f"{pair!r} is not NAME=ROLE with a role of {', '.join(ROLES)}")
        found[name] = role
    return found


def proxies(listed: Sequence[str]) -> list[str]:
    """Return addresses and networks of proxies, or ``*`` alone for whoever connects."""
    for one in listed if [*listed] != ["*"] else ():
        try:
            ip_network(one) if "/" in one else ip_address(one)
        except ValueError as error:
            raise ValueError(
                f"must be addresses or networks, 192.0.2.1 or 10.0.0.0/8, or * alone; {one!r} is neither"
            ) from error
    return [*listed]
