"""Recorded attacks on Windows machines: whether each is alerted, and rightly named.

``DIR/windows/*.ndjson.gz`` holds one tenant for each recording.
"""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from bench.detection_trials import try_events

ATTACKED: Final = "win-"
# The two benign recordings have one and two.
ATTACK_FAILURES: Final = 5
# Fewer users than this at an address are not being sprayed; more tries for each is guessing passwords.
SPRAYED_USERS, SPRAY_TRIES = 3, 5
MANY_USERS: Final = frozenset({"password_spray", "user_enumeration", "credential_stuffing"})
FEW_USERS: Final = frozenset({"brute_force"})
GUESSING: Final = MANY_USERS | FEW_USERS


def expected(tenant_id: str, events: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the classifications that are right for a tenant's events; none: it is benign.

    Many users tried from one address are a spray, or however their names make it one; everything else, one
    user after the other or without an address, is brute force.

    >>> expected("win-1", [{"outcome": "failure", "user_id": "ana", "source_ip": None}] * 5)
    frozenset({'brute_force'})
    """
    failures = [event for event in events if event["outcome"] == "failure"]
    if not tenant_id.startswith(ATTACKED) or len(failures) < ATTACK_FAILURES:
        return frozenset()
    users: defaultdict[str, set[str]] = defaultdict(set)
    tries = Counter(event["source_ip"] for event in failures)
    for event in failures:
        users[event["source_ip"]].add(event["user_id"])
    sprayed = any(
        address is not None and len(names) >= SPRAYED_USERS and tries[address] <= SPRAY_TRIES * len(names)
        for address, names in users.items()
    )
    return MANY_USERS if sprayed else FEW_USERS


def is_right(said: Collection[str], right: frozenset[str]) -> bool:
    """Return whether an attack's guessing was named so and in no other way; for who is benign, nothing.

    >>> is_right(["brute_force", "success_after_failures"], FEW_USERS)
    True
    >>> is_right(["brute_force", "password_spray"], FEW_USERS), is_right(["brute_force"], frozenset())
    (False, False)
    """
    guessing = GUESSING & set(said)
    return bool(guessing) and guessing <= right if right else not said


def run(folder: Path) -> dict[str, Any]:
    """Return what was said of each tenant; the contract rejects events whose address is a host's name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.ndjson.gz")):
        with gzip.open(path) as file:
            lines = file.read().splitlines()
        tried = try_events(lines)
        of_tenant: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in lines:
            event = json.loads(line)
            of_tenant[event["tenant_id"]].append(event)
        said: defaultdict[str, list[str]] = defaultdict(list)
        for alert in tried.alerts:
            said[alert.tenant_id].append(alert.classification)
        tenants = {}
        for tenant_id, events in of_tenant.items():
            right = expected(tenant_id, events)
            tenants[tenant_id] = {
                "failures": sum(event["outcome"] == "failure" for event in events),
                "attack": bool(right),
                "expected": sorted(right),
                "alerts": said[tenant_id],
                "right": is_right(said[tenant_id], right),
            }
        found[path.name.removesuffix(".ndjson.gz")] = {
            "events": len(lines),
            "rejected": len(tried.rejected),
            "rejected_for_host_names": sum(bad.detail.startswith("source_ip:") for bad in tried.rejected),
            "attacks": sum(one["attack"] for one in tenants.values()),
            "attacks_right": sum(one["attack"] and one["right"] for one in tenants.values()),
            "benign": sum(not one["attack"] for one in tenants.values()),
            "benign_silent": sum(not one["attack"] and one["right"] for one in tenants.values()),
            "tenants": tenants,
        }
    return found
