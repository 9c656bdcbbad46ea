"""Running sshd's reader over lines, for its tests."""

from datetime import UTC
from typing import Any

from tenantwatch.importers.importer import Importer, Line, Tenancy
from tenantwatch.importers.report import ImportReport
from tenantwatch.importers.sshd import SshdReader

FAILED = "Failed password for root from 192.0.2.1 port 4242 ssh2"


def line(
    message: str, *, stamp: str = "Jan  5 06:55:46", program: str = "sshd[7]", host: str = "web-1"
) -> str:
    """Return a line of syslog."""
    return f"{stamp} {host} {program}: {message}"


def read(*lines: str, **options: Any) -> tuple[list[dict[str, Any]], ImportReport]:
    """Return what becomes of lines: events, in which what is absent is None, and the report."""
    settings: dict[str, Any] = {"year": 2026, "zone": UTC} | options
    importer = Importer(SshdReader(**settings).read, Tenancy("tenant-a"), "sshd")
    absent = dict.fromkeys(("user_id", "source_ip", "reason", "auth_method"))
    return [absent | event for event in importer.events(map(Line, lines))], importer.report


def read_one(message: str, **parts: str) -> dict[str, Any]:
    """Return the event of a message that makes one."""
    events, _ = read(line(message, **parts))
    assert len(events) == 1, f"{len(events)} events from {message!r}"
    return events[0]


def kinds(*lines: str) -> dict[str, int]:
    """Return the kinds of lines that carry no event."""
    events, report = read(*lines)
    assert events == []
    return dict(report.without_event)


def times(*stamps: str, **options: Any) -> list[str]:
    """Return the times of events at some stamps."""
    events, _ = read(*(line(FAILED, stamp=stamp) for stamp in stamps), **options)
    return [event["time"] for event in events]
