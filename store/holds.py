"""Legal holds: while one is there, nothing of a tenant or of a person is deleted, by wish or by age."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from schemas.personal import scrubbed
from store.database import Database
from store.queries import Scope, TenantContext

WHOLE_TENANT: Final = ""


class Held(Exception):
    """A legal hold forbids it; the message names the hold and how it is released."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold.

    Parameters
    ----------
    pseudonym
        Of the person; empty: the whole tenant.
    """

    hold_id: str
    tenant_id: str
    pseudonym: str
    reason: str
    placed_by: str
    placed_at: datetime


def place(
    database: Database, tenant: TenantContext, pseudonym: str, *, reason: str, actor: str, now: datetime
) -> Hold:
    """Place a hold on a person, or on the whole tenant; addresses in the reason are hidden."""
    hold = Hold(uuid4().hex[:16], tenant.tenant_id, pseudonym, scrubbed(reason), actor, now)
    database.insert_rows("legal_holds", [_row(hold, 0, actor, now)])
    return hold


def release(
    database: Database, tenant: TenantContext, hold_ids: Sequence[str], *, actor: str, now: datetime
) -> list[Hold]:
    """Release holds of a tenant, and return those that were there."""
    released = [hold for hold in active(database, tenant) if hold.hold_id in hold_ids]
    database.insert_rows("legal_holds", [_row(hold, 1, actor, now) for hold in released])
    return released


def active(database: Database, scope: Scope) -> list[Hold]:
    """Return the holds that are not released, the oldest first."""
    condition, bound = scope.condition()
    rows = database.query(
        "SELECT hold_id, tenant_id, pseudonym, reason, placed_by, placed_at FROM legal_holds FINAL "
        f"WHERE {condition} AND NOT released ORDER BY placed_at, hold_id",
        bound,
    )
    return [Hold(**row) for row in rows]


def check_free(database: Database, tenant: TenantContext, pseudonyms: Sequence[str]) -> None:
    """Make sure that no hold forbids deleting these people.

    Raises
    ------
    Held
        If one does.
    """
    for hold in active(database, tenant):
        if hold.pseudonym in (WHOLE_TENANT, *pseudonyms):
            what = hold.pseudonym or f"all of {hold.tenant_id}"
            raise Held(
                f"legal hold {hold.hold_id} on {what} since {hold.placed_at:%Y-%m-%d} by {hold.placed_by} "
                f"({hold.reason}): nothing was deleted; `tenantwatch privacy release --tenant "
                f"{hold.tenant_id} {hold.hold_id}` ends it"
            )


def _row(hold: Hold, released: int, actor: str, now: datetime) -> dict[str, Any]:
    fields = ("hold_id", "tenant_id", "pseudonym", "reason", "placed_by", "placed_at")
    return {
        **{name: getattr(hold, name) for name in fields},
        "released": released,
        "changed_by": actor,
        "changed_at": now,
    }
