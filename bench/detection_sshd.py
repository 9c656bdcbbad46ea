"""Logs of sshd on machines that strangers reach: whether alerts name the addresses that failures come from.

``DIR/ssh/*.log``. Who got in from an address is benign there, as far as nobody knows better.
"""

import json
from collections import Counter
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from bench.detection_trials import try_events
from tenantwatch.importers.importer import Importer, Line, Tenancy
from tenantwatch.importers.sshd import SshdReader

# Logs name no year: any, so that it is the same at every run.
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN: Final = 10


def run(folder: Path) -> dict[str, Any]:
    """Return, for each log, how many failures come from an address that is an alert's entity."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.log")):
        importer = Importer(SshdReader(year=None, zone=UTC, now=NOW).read, Tenancy("tenant-ssh"), "sshd")
        with path.open(errors="surrogateescape") as log:
            events = list(importer.events(map(Line, log)))
        alerts = try_events(json.dumps(event).encode() for event in events).alerts
        named = {alert.entity.value for alert in alerts}
        networks = [ip_network(a.entity.value) for a in alerts if a.entity.type == "source_network"]
        tries = Counter(e.get("source_ip") for e in events if e["outcome"] == "failure")
        welcome = {(e.get("user_id"), e.get("source_ip")) for e in events if e["outcome"] == "success"}
        unnamed = {address: n for address, n in tries.most_common() if address not in named}
        beyond = {
            address: n
            for address, n in unnamed.items()
            if address is None or not any(ip_address(address) in network for network in networks)
        }
        found[path.stem] = {
            "failures": tries.total(),
            "from_named_addresses": tries.total() - sum(unnamed.values()),
            "from_named_networks_too": tries.total() - sum(beyond.values()),
            "without_address": tries[None],
            "addresses": len(tries),
            "benign": sorted(f"{user} at {address}" for user, address in welcome),
            "benign_silent": not named & {part for pair in welcome for part in pair},
            "classifications": dict(Counter(a.classification for a in alerts).most_common()),
            "most_of_the_rest": {str(address): n for address, n in list(unnamed.items())[:SHOWN]},
            "lines_not_understood": importer.report.not_understood,
        }
    return found
