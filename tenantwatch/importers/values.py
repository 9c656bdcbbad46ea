"""What other programs write, in the contract's form: times, addresses, codes."""

import ipaddress
import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

# What the contract's `time` can hold.
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds of the year 2199 have ten digits, milliseconds of 1973 and later at least twelve.
LARGEST_EPOCH_S: Final = 10**11

ATTRIBUTE_CHARACTERS: Final = 256
CODE_CHARACTERS: Final = 64

# Where collectors put the time of a record that has lost its own: Panther, Elastic, Splunk.
COLLECTED_TIMES: Final = ("p_event_time", "@timestamp", "_time")

_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,20}(?:\.\d{1,9})?", re.ASCII)
# As .NET's serializers write it: milliseconds, and a zone that changes nothing.
_DOTNET: Final = re.compile(r"/Date\((-?\d{1,20})(?:[+-]\d{4})?\)/", re.ASCII)
_WITH_PORT: Final = re.compile(
    r"\[([0-9a-fA-F:.]+)\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}", re.ASCII
)
_BEFORE_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_CODE: Final = re.compile(r"[^a-z0-9]+")
SURROGATE: Final = re.compile("[\ud800-\udfff]")


class NotUnderstood(ValueError):
    """A line or record is not what its source should write; the message says why."""


def utc_text(local: datetime) -> str | None:
    """Return a time with a zone as RFC 3339 in UTC to the millisecond; None if the contract cannot hold it.

    >>> utc_text(datetime.fromisoformat("2026-01-05T08:00:00.1239+01:00"))
    '2026-01-05T07:00:00.123Z'
    """
    try:
        utc = local.astimezone(UTC)
    except OverflowError:
        return None
    if not FIRST_YEAR <= utc.year <= LAST_YEAR:
        return None
    return utc.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def time_of(value: object, name: str = "time", zone: tzinfo = UTC) -> str:
    """Return a time as the contract writes it.

    Read are ISO 8601 (with a blank for the ``T``, without a zone, with up to nine digits of a second),
    seconds and milliseconds since 1970, and ``/Date(1767600000000)/``.

    Parameters
    ----------
    value
        What the record holds there.
    name
        The field, for the error.
    zone
        Of times that name none.

    Raises
    ------
    NotUnderstood
        If there is no value or it is no such time.

    >>> time_of("2026-01-05 08:00:00.1234567"), time_of(1767600000)
    ('2026-01-05T08:00:00.123Z', '2026-01-05T08:00:00.000Z')
    """
    if value is None or value == "":
        raise NotUnderstood(f"{name} is missing")
    text = None
    if isinstance(value, str):
        text = _time_of_text(value.strip(), zone)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = _time_of_number(value)
    if text is None:
        raise NotUnderstood(f"{name} is {value!r:.60}, which is no time that is known here")
    return text


@lru_cache(maxsize=1 << 10)
def _time_of_text(text: str, zone: tzinfo) -> str | None:
    if _DATED.match(text):
        try:
            local = datetime.fromisoformat(text.removesuffix(" UTC").replace(" +", "+"))
        except ValueError:
            return None
        return utc_text(local if local.tzinfo else local.replace(tzinfo=zone))
    if match := _DOTNET.fullmatch(text):
        return _time_of_number(int(match[1]) / 1000)
    return _time_of_number(float(text)) if _NUMBER.fullmatch(text) else None


def _time_of_number(number: float) -> str | None:
    seconds = number if abs(number) < LARGEST_EPOCH_S else number / 1000
    try:
        return utc_text(EPOCH + timedelta(milliseconds=round(seconds * 1000)))
    except (OverflowError, ValueError):
        return None


@lru_cache(maxsize=1 << 14)
def source_of(source: str) -> tuple[str | None, dict[str, str]]:
    """Return a source's address, and as attributes what an address can not hold.

    >>> source_of("::ffff:192.0.2.1"), source_of("web-1.example.com")
    (('192.0.2.1', {}), (None, {'source_host': 'web-1.example.com'}))
    """
    # "UNKNOWN" is sshd's word for a peer without address, "-" that of most others.
    if source in ("", "UNKNOWN", "-"):
        return None, {}
    match = _WITH_PORT.fullmatch(source)
    try:
        address = ipaddress.ip_address((match[1] or match[2]) if match else source)
    except ValueError:
        return None, {"source_host": source[:ATTRIBUTE_CHARACTERS]}
    if isinstance(address, ipaddress.IPv4Address):
        return str(address), {}
    if address.ipv4_mapped is not None:
        # A dual-stack socket's spelling: the same client must be one address, however the socket was opened.
        return str(address.ipv4_mapped), {}
    if address.scope_id is not None:
        plain = str(ipaddress.IPv6Address(int(address)))
        return plain, {"source_zone": address.scope_id[:ATTRIBUTE_CHARACTERS]}
    return str(address), {}


@lru_cache(maxsize=1 << 12)
def code_of(text: str) -> str | None:
    """Return a text as a code in snake_case; None if nothing is left of it.

    >>> code_of("Client.UnauthorizedOperation"), code_of("VPCEAccessDenied"), code_of("—")
    ('client_unauthorized_operation', 'vpce_access_denied', None)
    """
    words = _NO_CODE.sub("_", _BEFORE_CAPITAL.sub("_", text).lower()).strip("_")
    return words[:CODE_CHARACTERS].strip("_") or None


def escape_surrogates(text: str) -> str:
    r"""Write bytes that were not UTF-8 as ``\xNN``, as reading with ``errors="backslashreplace"`` would.

    Otherwise they are lone surrogates (``errors="surrogateescape"``), which JSON can not carry, and the same
    file would give other events when opened in another way.

    Examples
    --------
    >>> escape_surrogates(b"caf\xe9".decode(errors="surrogateescape"))
    'caf\\xe9'
    """
    return text if text.isascii() else SURROGATE.sub(_escape_surrogate, text)


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
