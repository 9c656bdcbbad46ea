"""What is remembered of addresses that fail at several tenants."""

from dataclasses import dataclass, field
from typing import ClassVar

from detectors.clock import Clock
from detectors.visits import Visit


@dataclass
class CrossTenantSprayState:
    """What is remembered of the addresses of one partition of ``audit.failures-by-ip``.

    Parameters
    ----------
    clock
        Watermark of each tenant, as far as its failures here tell.
    arrived_ms, epoch
        When the latest failure arrived, and that hour's number.
    visits
        Address to its visits.
    open, due_ms
        Tenant to addresses with an alert that is not resolved, and the time before which none can be.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 1

    clock: Clock = field(default_factory=Clock)
    arrived_ms: int = 0
    epoch: int = 0
    visits: dict[str, list[Visit]] = field(default_factory=dict)
    open: dict[str, set[str]] = field(default_factory=dict)
    due_ms: dict[str, int] = field(default_factory=dict)

    def unresolved(self, tenant_id: str, address: str) -> list[Visit]:
        """Return the visits of a tenant that have an alert which is not resolved."""
        return [
            visit
            for visit in self.visits[address]
            if visit.tenant_id == tenant_id and visit.shared and not visit.resolved
        ]

    def close(self, tenant_id: str, address: str) -> None:
        """Take an address off a tenant's list once nothing is left to be told of it."""
        if tenant_id in self.open and not self.unresolved(tenant_id, address):
            self.open[tenant_id].discard(address)
            if not self.open[tenant_id]:
                del self.open[tenant_id], self.due_ms[tenant_id]
