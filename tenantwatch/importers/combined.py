"""Access logs of Apache and nginx, in the combined or the common format, turned into request events."""

import ipaddress
import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from tenantwatch.importers.importer import Line, Reading
from tenantwatch.importers.routes import route_of
from tenantwatch.importers.syslog import MONTH_NUMBERS
from tenantwatch.importers.values import NotUnderstood, escape_surrogates, source_of, utc_text

# Quotes inside are escaped by both servers, so what a client sends cannot end its field.
_QUOTED: Final = r'"((?:[^"\\]|\\.)*)"'
LINE: Final = re.compile(
    # Before the client, Apache's `vhost_combined` has the server's name and port.
    r"(?:(?P<vhost>\[[0-9a-fA-F:.]+\]|[^\s:]+):(?P<port>\d{1,5}) )?"
    # Behind a proxy, some write what it forwarded: a list.
    r"(?P<client>[^\s,]+(?:, ?[^\s,]+)*) (?P<ident>\S+) (?P<user>\S+|\"[^\"]*\"|.+?) "
    r"\[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<clock>\d\d:\d\d:\d\d)"
    r" (?P<zone>[+-]\d{4})\] "
    rf"(?P<request>{_QUOTED}) (?P<status>\d{{3}}|-) (?P<bytes>\d{{1,19}}|-)"
    rf"(?: (?P<referer>{_QUOTED}) (?P<agent>{_QUOTED}))?"
    r"(?P<rest>(?: .*)?)",
    re.ASCII,
)
REQUEST: Final = re.compile(r"([A-Za-z]{1,32}) (\S.*?)(?: (HTTP/\d(?:\.\d)?))?", re.ASCII)
ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)
# What administrators add behind the combined format: the time to answer first, if they add it.
FIRST_NUMBER: Final = re.compile(r" (?:\"?[a-z_]{1,20}=)?(\d{1,12}(?:\.\d{1,9})?)\b", re.ASCII)
FORWARDED: Final = re.compile(rf" {_QUOTED}")

# Proxies of one's own have these addresses: RFC 1918, 4193 and 3927, and loopback.
INTERNAL: Final = [
    ipaddress.ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16"),
        *("fc00::/7", "fe80::/10", "::1/128"),
    )
]

REASONS: Final = {401: "unauthorized", 403: "missing_permission", 404: "not_found", 429: "rate_limited"}
# Milliseconds of a unit: Apache's %D is microseconds and %T seconds, nginx's $request_time seconds.
DURATION_UNITS_MS: Final = {"s": 1_000.0, "ms": 1.0, "us": 0.001}


class CombinedReader:
    """Reads lines of an access log.

    The query is left out: it is where tokens and personal data are.

    Parameters
    ----------
    duration_unit
        Unit of the first number behind the user agent, the time to answer: ``s``, ``ms`` or ``us``. None:
        what stands there, if anything, is something else.

    Examples
    --------
    >>> line = '192.0.2.1 - ana [05/Jan/2026:08:00:00 +0100] "GET /jobs/42?t=1 HTTP/1.1" 404 153 "-" "curl/8"'
    >>> event = CombinedReader().read(Line(line))
    >>> event["time"], event["http_route"], event["outcome"], event["reason"]
    ('2026-01-05T07:00:00.000Z', '/jobs/{id}', 'failure', 'not_found')
    """

    def __init__(self, duration_unit: str | None = None) -> None:
        self._ms = DURATION_UNITS_MS[duration_unit] if duration_unit else None

    def read(self, line: Line) -> Reading:
        """Return a line's event.

        Raises
        ------
        NotUnderstood
            If it is not of the format.
        """
        text = escape_surrogates(line.text).rstrip()
        if not text:
            return "blank"
        match = LINE.fullmatch(text)
        if match is None:
            raise NotUnderstood("not in the combined or common log format")
        time = _time(*match.group("year", "month", "day", "clock", "zone"))
        if time is None:
            raise NotUnderstood("its time does not exist")
        client = match["client"]
        source_ip, source_attributes = source_of(_nearest(client) if "," in client else client)
        status = int(match["status"]) if match["status"] != "-" else 0
        request = match["request"][1:-1]
        method, path, protocol = _request(request)
        user = match["user"].strip('"')
        known = 100 <= status <= 599
        failed = status >= 400 or not known
        rest = match["rest"]
        return {
            "kind": "request",
            "time": time,
            "user_id": None if user == "-" else user,
            "source_ip": source_ip,
            "user_agent": _field(match["agent"]),
            "outcome": "failure" if failed else "success",
            "reason": _reason(status, known=known) if failed else None,
            "http_method": method,
            "http_route": route_of(path) if path else None,
            "http_path": path,
            "http_status": status if known else None,
            "duration_ms": self._duration_ms(rest) if rest else None,
            "bytes_out": int(match["bytes"]) if match["bytes"] != "-" else None,
            "attributes": {
                "host": match["vhost"] and match["vhost"].strip("[]"),
                "referer": (_field(match["referer"]) or "").partition("?")[0],
                "protocol": protocol,
                "request": None if method else request,
                "forwarded_for": (_forwarded(rest) if rest else None) or (client if "," in client else None),
                **source_attributes,
            },
        }

    def _duration_ms(self, rest: str) -> float | None:
        match = FIRST_NUMBER.search(rest) if self._ms else None
        return float(match[1]) * self._ms if match and self._ms else None


@lru_cache(maxsize=1 << 12)
def _nearest(forwarded: str) -> str:
    """Return the last address of a list that is none of one's own proxies; if there is none, the first.

    Each proxy adds whom it heard, so what stands further in front the client may have made up.
    """
    parts = [part.strip() for part in forwarded.split(",")]
    for part in reversed(parts):
        source_ip, _ = source_of(part)
        if source_ip and not any(ipaddress.ip_address(source_ip) in network for network in INTERNAL):
            return part
    return parts[0]


@lru_cache(maxsize=1 << 8)
def _time(year: str, month: str, day: str, clock: str, zone: str) -> str | None:
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    try:
        local = datetime.fromisoformat(f"{year}-{MONTH_NUMBERS[month]:02}-{day}T{clock}")
        return utc_text(local.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset)))
    except (ValueError, KeyError):
        return None


def _request(request: str) -> tuple[str | None, str | None, str | None]:
    """Return method, path and protocol of a request line; none of them if it is no HTTP."""
    match = REQUEST.fullmatch(request)
    if match is None or not (match[3] or match[2].startswith("/")):
        return None, None, None
    target = ORIGIN.sub("", match[2], count=1)
    return match[1], target.partition("?")[0].partition("#")[0] or "/", match[3]


def _reason(status: int, *, known: bool) -> str:
    if not known:
        return "no_status"
    return REASONS.get(status) or ("server_error" if status >= 500 else f"http_{status}")


def _field(quoted: str | None) -> str | None:
    if quoted is None or quoted == '"-"':
        return None
    return quoted[1:-1].replace('\\"', '"')


def _forwarded(rest: str) -> str | None:
    match = FORWARDED.match(rest)
    return match[1] if match and match[1] != "-" else None
