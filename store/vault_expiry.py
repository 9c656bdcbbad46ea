"""People of whom the trail has nothing left leave the vault too: originals are kept no longer than events."""

from datetime import datetime, timedelta
from typing import Final

import structlog

from schemas.personal import PSEUDONYM
from store.database import Database
from store.holds import WHOLE_TENANT, active
from store.people import PATTERN, TEXT
from store.privacy_log import record
from store.queries import TenantContext
from store.vault import Vault

log = structlog.get_logger()
# Whoever was met since may have events that are not stored yet.
GRACE: Final = timedelta(days=1)
# Of a tenant, in one statement and one entry of the log; and how many of these a day: after each, workers
# read again who was forgotten.
AT_ONCE: Final = 10_000
TIMES: Final = 10
_UNSPOKEN_OF: Final = (
    "SELECT DISTINCT pseudonym FROM vault WHERE {scope} AND stored_at < {{before:DateTime64(3)}} "
    "AND pseudonym NOT IN "
    "(SELECT arrayJoin(extractAll({text}, {{pattern:String}})) FROM events WHERE {scope}) "
    "AND pseudonym NOT IN "
    "(SELECT arrayJoin(extractAll(body, {{pattern:String}})) FROM alerts WHERE {scope}) "
    "AND pseudonym NOT IN (SELECT pseudonym FROM legal_holds FINAL WHERE {scope} AND NOT released) "
    "LIMIT {at_once}"
)


def expire_people(database: Database, vault: Vault, now: datetime) -> int:
    """Delete from the vault whom no event and no alert of their tenant speaks of; return how many they were.

    It is a forgetting that nobody asked for, so it goes the same way; legal holds forbid it too.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    VaultBusy
        If old files were not removed in time: people are gone, their bytes may still be there.
    """
    before, gone = now - GRACE, 0
    for row in database.query("SELECT DISTINCT tenant_id FROM vault"):
        tenant = TenantContext(row["tenant_id"])
        for _ in range(TIMES):
            people = _unspoken_of(database, tenant, before)
            if people:
                reason = "no event and no alert speaks of them"
                entry_id = record(database, "expire", tenant.tenant_id, people, "retention", reason)
                # As of then: events that Kafka had since make them known anew. Where several workers share a
                # store, each wait is also a pause in which the others' new people get in: what they insert
                # begins again after each shredding that it did not know of.
                shredded = vault.shred(tenant.tenant_id, people, entry_id, before, wait=database.shared)
                gone += shredded["vault"]
            if len(people) < AT_ONCE:
                break
    if gone:
        log.info("people_expired", people=gone)
        # Once for all tenants: the engine takes a second or two, however many files there are.
        vault.await_removal()
    return gone


def _unspoken_of(database: Database, tenant: TenantContext, before: datetime) -> list[str]:
    """Return whom nothing of a tenant speaks of, at most `AT_ONCE` of them, by the holds of now."""
    if any(hold.pseudonym == WHOLE_TENANT for hold in active(database, tenant)):
        return []
    scope, bound = tenant.condition()
    found = database.query(
        _UNSPOKEN_OF.format(scope=scope, text=TEXT, at_once=AT_ONCE),
        {**bound, "before": before, "pattern": PATTERN},
    )
    return [one["pseudonym"] for one in found if PSEUDONYM.fullmatch(one["pseudonym"])]
