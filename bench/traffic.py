"""Seeded traffic for benchmarks: three kinds, many tenants and users, a few per cent of failures."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from schemas.event import KINDS, Kind
from schemas.tenant import Tenant

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def tenants(count: int) -> list[Tenant]:
    """Return tenants of all three tiers."""
    tiers = ("free", "standard", "enterprise")
    return [
        Tenant(
            tenant_id=f"tenant-{i}",
            organization_id=f"org-{i}",
            name=f"Tenant {i}",
            tier=tiers[i % 3],
            region="eu",
        )
        for i in range(count)
    ]


def events(
    count: int, *, tenant_count: int, user_count: int, seed: int, domain: str = ""
) -> Iterator[tuple[Kind, str, bytes]]:
    """Yield kind, tenant and JSON of events of 14 to 16 fields, one every 5 ms of event time.

    Parameters
    ----------
    domain
        What follows each ``user_id``, e.g. ``@example.com``.
    """
    draw = random.Random(seed)
    for i in range(count):
        kind = KINDS[i % 3]
        user = draw.randrange(user_count)
        tenant_id = f"tenant-{user % tenant_count}"
        failed = draw.random() < 0.02
        event = {
            "event_id": f"{seed:04x}-{i:012x}",
            "kind": kind,
            "tenant_id": tenant_id,
            "time": (START + timedelta(milliseconds=5 * i))
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "service": f"service-{user % 7}",
            "user_id": f"user-{user}{domain}",
            "source_ip": f"198.51.{user % 100}.{user % 250}",
            "user_agent": f"Mozilla/5.0 (X11; Linux x86_64) Client/{user % 40}",
            "session_id": f"session-{user}-{i // 100_000}",
            "outcome": "failure" if failed else "success",
            **_OF_KIND[kind],
        }
        if failed:
            event["reason"] = "bad_password" if kind == "auth" else "missing_permission"
        yield kind, tenant_id, json.dumps(event).encode()


_OF_KIND: dict[Kind, dict[str, object]] = {
    "auth": {"action": "login", "auth_method": "password", "trace_id": None},
    "access": {"action": "read", "permission": "jobs:read", "resource_type": "job", "resource_id": "job-17"},
    "request": {
        "http_method": "GET",
        "http_route": "/v1/jobs/{id}",
        "http_path": "/v1/jobs/17",
        "http_status": 200,
        "duration_ms": 12.5,
    },
}
