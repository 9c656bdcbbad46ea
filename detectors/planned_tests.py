"""Planned tests: events that a tenant has agreed to, which are stored and not judged."""

from functools import lru_cache
from ipaddress import ip_address

import numpy as np

from detectors.columns import values_at
from schemas.batch import Bools, EventBatch
from schemas.tenant import PlannedTest, is_too_wide, meant_network


def in_planned_test(batch: EventBatch) -> Bools:
    """Return ``(n,)`` which events come from a test's networks during it, by the tenant's own settings.

    Parameters
    ----------
    batch
        Enriched; without tenants' settings there are no tests.
    """
    planned = np.zeros(len(batch), np.bool_)
    for code, tenant in enumerate(batch.tenants):
        for test in tenant.planned_tests:
            start_ms, end_ms = (round(1000 * time.timestamp()) for time in (test.start, test.end))
            of_tenant = batch.tenant.codes == code
            rows = (of_tenant & (batch.time_ms >= start_ms) & (batch.time_ms < end_ms)).nonzero()[0]
            addresses = values_at(batch.columns["source_ip"], rows)
            planned[rows] |= np.array([_within(address, test) for address in addresses], np.bool_)
    return planned


def _within(address: str | None, test: PlannedTest) -> bool:
    return address is not None and _in_networks(address, tuple(test.source_networks))


@lru_cache(4_096)
def _in_networks(address: str, networks: tuple[str, ...]) -> bool:
    parsed = ip_address(address)
    # A stored test may name all of IPv4 as ::ffff:0:0/96, which nobody may apply any more.
    return any(parsed in meant_network(network) for network in networks if not is_too_wide(network))
