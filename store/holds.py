"""Legal holds: while one is there, nothing of a tenant or of a person is deleted, by wish or by age."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from schemas.personal import scrubbed
from store.database import Database
from store.queries import Scope, TenantContext

WHOLE_TENANT: Final = ""
_ID_CHARACTERS: Final = 16
# The store's times have milliseconds.
_NEXT: Final = timedelta(milliseconds=1)


class Held(Exception):
    """A legal hold forbids it; the message names the hold and how it is released."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold.

    Parameters
    ----------
    pseudonym
        Of the person, or as what events hold them who was no pseudonym then; empty: the whole tenant.
    """

    hold_id: str
    tenant_id: str
    pseudonym: str
    reason: str
    placed_by: str
    placed_at: datetime


def place(
    database: Database,
    tenant: TenantContext,
    pseudonym: str,
    plain: Sequence[str] = (),
    *,
    reason: str,
    actor: str,
    now: datetime,
) -> Hold:
    """Place a hold on a person, or on the whole tenant; addresses in the reason are hidden.

    Parameters
    ----------
    plain
        As what events hold the person who was no pseudonym then: a hold of each, released with the first.
    """
    hold = Hold(uuid4().hex[:_ID_CHARACTERS], tenant.tenant_id, pseudonym, scrubbed(reason), actor, now)
    beside = [replace(hold, hold_id=f"{hold.hold_id}-{n}", pseudonym=one) for n, one in enumerate(plain, 1)]
    database.insert_rows("legal_holds", [_row(one, 0, actor, now) for one in (hold, *beside)])
    return hold


def release(
    database: Database, tenant: TenantContext, hold_ids: Sequence[str], *, actor: str, now: datetime
) -> list[Hold]:
    """Release holds of a tenant, and return those that were there."""
    released = [
        hold
        for hold in active(database, tenant)
        if hold.hold_id in hold_ids or hold.hold_id[:_ID_CHARACTERS] in hold_ids
    ]
    # Of a hold's rows the latest counts, and the clock here may be behind the one that it was placed by.
    rows = [_row(hold, 1, actor, max(now, hold.placed_at + _NEXT)) for hold in released]
    database.insert_rows("legal_holds", rows)
    return released


def active(database: Database, scope: Scope) -> list[Hold]:
    """Return the holds that are not released, the oldest first."""
    return _read(database, scope, "NOT released")


def with_ids(database: Database, tenant: TenantContext, hold_ids: Collection[str]) -> list[Hold]:
    """Return holds of a tenant, released or not."""
    return [hold for hold in _read(database, tenant, "true") if hold.hold_id in hold_ids] if hold_ids else []


def _read(database: Database, scope: Scope, which: str) -> list[Hold]:
    condition, bound = scope.condition()
    rows = database.query(
        "SELECT hold_id, tenant_id, pseudonym, reason, placed_by, placed_at FROM legal_holds FINAL "
        f"WHERE {condition} AND {which} ORDER BY placed_at, hold_id",
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
