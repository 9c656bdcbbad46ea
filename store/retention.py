"""Retention: events, alerts and backtests leave the store, as the tenant's settings of now say.

Not a TTL: that deleted freshly imported old rows within seconds, and cannot follow a changed setting.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from schemas.event import Kind
from schemas.tenant import DEFAULT_RETENTION_DAYS, Tenant
from store.alert_expiry import ALERT, OLDEST_ALERTS, aged_alerts, alert_days, delete_alerts
from store.backtests import BACKTEST, OLDEST_BACKTESTS, aged_backtests, delete_backtests
from store.database import Database, Guard
from store.event_expiry import AgedEvents
from store.expiry import Named
from store.holds import WHOLE_TENANT, Hold, active, with_ids
from store.queries import PlatformContext, TenantContext
from store.seals.keys import Signer
from store.seals.statements import keep, state_retention, stated_rows

log = structlog.get_logger()

# One pass; to ask for each tenant and kind takes 10 ms each, whether anything has aged or not.
_OLDEST: Final = (
    "SELECT tenant_id, kind, min(greatest(time, ingest_time)) AS oldest FROM events "
    "GROUP BY tenant_id, kind ORDER BY tenant_id, kind"
)
_COUNTS: Final = frozenset({"rows_removed", "evaluated_removed"})
_UNFINISHED: Final = (
    "SELECT run_at, tenant_id, kind, retention_days, cutoff, groupUniqArrayArray(holds) AS holds, "
    "sum(rows_removed) AS counted "
    "FROM retention_runs WHERE run_at NOT IN (SELECT run_at FROM retention_finished) "
    "GROUP BY run_at, tenant_id, kind, retention_days, cutoff"
)
# Not what a tenant's deletion wrote: that has no settings.
_LAST: Final = (
    "SELECT tenant_id, body FROM tenants FINAL WHERE body != '' ORDER BY version DESC LIMIT 1 BY tenant_id"
)


@dataclass(frozen=True)
class _Run:
    """A run, as `run_retention` is asked for it."""

    database: Database
    now: datetime
    signer: Signer | None
    guard: Callable[[], Guard] | None

    def account(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write down what is about to be removed."""
        self.database.insert_rows("retention_runs", rows, self._guarded())

    def state(self, tenant_id: str, kind: str, cutoff: datetime, days: int, rows: int) -> None:
        """State that retention removes so many rows, where anything is sealed."""
        if rows and self.signer is not None:
            statement = state_retention(tenant_id, kind, cutoff, days, rows, self.now, self.signer)
            # Guarded as the account is: who takes over states what we had counted.
            keep(self.database, [statement], self._guarded())

    def _guarded(self) -> Guard | None:
        return self.guard() if self.guard is not None else None


@dataclass(frozen=True)
class _Told:
    """What is told of events: in no partition, not sealed, and removed of all tenants at once.

    It is kept for as long as the tenant keeps events of any kind.
    """

    kind: str
    # Of each tenant that has any.
    oldest: str
    aged: Callable[[Database, Mapping[str, datetime], Mapping[str, Collection[str]]], list[Named]]
    delete: Callable[[Database, Sequence[Named]], None]

    def remove(self, run: _Run, tenants: Mapping[str, Tenant], held: Mapping[str, set[str]]) -> int:
        days, cutoffs = {}, {}
        for row in run.database.query(self.oldest):
            tenant_id = row["tenant_id"]
            days[tenant_id] = alert_days(tenants.get(tenant_id))
            cutoff = run.now - timedelta(days=days[tenant_id])
            if row["oldest"] < cutoff and not _all_held(self.kind, tenant_id, held.get(tenant_id, ())):
                cutoffs[tenant_id] = cutoff
        aged = self.aged(run.database, cutoffs, held)
        account = [
            {
                "run_at": run.now,
                "tenant_id": tenant_id,
                "kind": self.kind,
                "retention_days": days[tenant_id],
                "cutoff": cutoffs[tenant_id],
                "rows_removed": rows,
            }
            for tenant_id, rows in Counter(tenant_id for tenant_id, _ in aged).items()
        ]
        if account:
            run.account(account)
            self.delete(run.database, aged)
            log.info("rows_expired", kind=self.kind, tenants=len(account), rows_removed=len(aged))
        return len(aged)

    def finish(
        self, database: Database, counted: Sequence[Mapping[str, Any]], held: Mapping[str, set[str]]
    ) -> None:
        """Remove what was counted, by the latest cutoff of each tenant."""
        cutoffs: dict[str, datetime] = {}
        for row in counted:
            tenant_id, cutoff = row["tenant_id"], row["cutoff"]
            if row["kind"] == self.kind and not _all_held(self.kind, tenant_id, held.get(tenant_id, ())):
                cutoffs[tenant_id] = max(cutoff, cutoffs.get(tenant_id, cutoff))
        self.delete(database, self.aged(database, cutoffs, held))


_TOLD: Final = (
    _Told(ALERT, OLDEST_ALERTS, aged_alerts, delete_alerts),
    _Told(BACKTEST, OLDEST_BACKTESTS, aged_backtests, delete_backtests),
)


def run_retention(
    database: Database,
    now: datetime,
    signer: Signer | None = None,
    guard: Callable[[], Guard] | None = None,
) -> int:
    """Remove what has aged out, log it in ``retention_runs``, and return how much went.

    Tenants that left the directory keep the settings of their last version; a tenant that never had any
    keeps all for the default 365 days.

    Parameters
    ----------
    now
        The moment to measure ages from, aware.
    signer
        Signs what is about to be removed, so that verification can tell it from tampering; None where nothing
        is sealed.
    guard
        Refuses the account of what is removed, and its statement, once another worker has taken over; that
        one first finishes what this one had counted, so nothing is counted or stated twice.

    Raises
    ------
    Fenced
        If the guard refused; nothing was removed that is not accounted for.
    StoreUnavailable
        If the store does not answer; what was removed until then is logged.
    """
    # As the store keeps it: by the cutoff, to the millisecond, a statement is found again.
    run = _Run(database, now.replace(microsecond=now.microsecond // 1000 * 1000), signer, guard)
    tenants = {row["tenant_id"]: Tenant.model_validate_json(row["body"]) for row in database.query(_LAST)}
    _finish_interrupted(run, tenants, _held(database))
    removed = 0
    # Holds are read each time: who is put on hold while this runs is kept from here on.
    for row in database.query(_OLDEST):
        tenant_id, kind = row["tenant_id"], row["kind"]
        days = _days_kept(tenants.get(tenant_id), kind)
        if row["oldest"] < run.now - timedelta(days=days):
            removed += _remove(run, tenant_id, kind, days, _held(database).get(tenant_id, ()))
    for told in _TOLD:
        removed += told.remove(run, tenants, _people(_held(database)))
    database.insert_rows("retention_finished", [{"run_at": run.now}])
    log.info("retention_finished", rows_removed=removed)
    return removed


def store_time(database: Database) -> datetime:
    """Return what time it is by the store's clock."""
    told: datetime = database.query("SELECT now64(3, 'UTC') AS now")[0]["now"]
    return told


def newest_known(database: Database) -> datetime | None:
    """Return the latest time at which an event was stored or retention ran; None where there is neither."""
    times = database.query(
        "SELECT max(ingest_time) AS at, count() AS n FROM events "
        "UNION ALL SELECT max(run_at) AS at, count() AS n FROM retention_finished"
    )
    return max((row["at"] for row in times if row["n"]), default=None)


def _held(database: Database) -> dict[str, list[Hold]]:
    """Return the legal holds by tenant."""
    held: dict[str, list[Hold]] = {}
    for hold in active(database, PlatformContext("retention")):
        held.setdefault(hold.tenant_id, []).append(hold)
    return held


def _people(held: Mapping[str, Sequence[Hold]]) -> dict[str, set[str]]:
    """Return by tenant who is on legal hold."""
    return {tenant_id: {hold.pseudonym for hold in holds} for tenant_id, holds in held.items()}


def _all_held(kind: str, tenant_id: str, people: Collection[str]) -> bool:
    if WHOLE_TENANT not in people:
        return False
    log.info("retention_held", tenant_id=tenant_id, kind=kind)
    return True


def _days_kept(tenant: Tenant | None, kind: Kind) -> int:
    return tenant.retention_days_of(kind) if tenant else DEFAULT_RETENTION_DAYS


def _aged(
    database: Database, tenant_id: str, kind: str, cutoff: datetime, held: Sequence[Hold]
) -> AgedEvents | None:
    """Return the events that have aged out; None: all of the tenant is held."""
    people = {hold.pseudonym for hold in held}
    if _all_held(kind, tenant_id, people):
        return None
    return AgedEvents(database, tenant_id, kind, cutoff, sorted(people))


def _finish_interrupted(run: _Run, tenants: Mapping[str, Tenant], held: Mapping[str, Sequence[Hold]]) -> None:
    """Remove what a run that was cut short had counted already; nothing that is counted again can match."""
    entries = run.database.query(_UNFINISHED)
    kinds_told = {told.kind for told in _TOLD}
    for entry in entries:
        if entry["kind"] not in kinds_told:
            tenant_id, kind = entry["tenant_id"], entry["kind"]
            by_now = entry["cutoff"] <= run.now - timedelta(days=_days_kept(tenants.get(tenant_id), kind))
            _finish(run, entry, held.get(tenant_id, ()), by_now)
    for told in _TOLD:
        told.finish(run.database, entries, _people(held))
    ended = {entry["run_at"] for entry in entries}
    run.database.insert_rows("retention_finished", [{"run_at": at} for at in ended])


def _finish(run: _Run, unfinished: Mapping[str, Any], held: Sequence[Hold], by_now: bool) -> None:
    """Remove what an entry has counted, but for what has come on hold since: that is taken back.

    Parameters
    ----------
    by_now
        Whether it has aged by the settings of now.
    """
    database, entry = run.database, dict(unfinished)
    left_out, rows = entry.pop("holds"), entry.pop("counted")
    which = entry["tenant_id"], entry["kind"], entry["cutoff"]
    before = with_ids(database, TenantContext(entry["tenant_id"]), left_out)
    # By the holds of then, released or not. None: all was taken back when this was last tried.
    counted = _aged(database, *which, before)
    free = _aged(database, *which, [*before, *held])
    left = free.groups() if free else []
    since = [hold.hold_id for hold in held if hold.hold_id not in left_out]
    if counted is not None and since:
        kept = _less(left, counted.groups())
        rows += _rows(kept)
        # With the holds, so that another try does not take the same back again.
        account = [{**entry, **group, "holds": since} for group in kept]
        run.account(account)
    if run.signer is not None:
        stated = stated_rows(database, *which, entry["retention_days"], run.signer)
        # Anybody can write an account. So what is stated first is what is there, of which nothing can have
        # been deleted yet, and of that what has aged by the settings of now; after that the account only
        # lessens it.
        first = _rows(left) if by_now else 0
        more = first if stated is None else min(0, rows - stated)
        run.state(*which, entry["retention_days"], more)
    if free:
        free.delete()


def _rows(groups: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(group["rows_removed"]) for group in groups)


def _less(some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return by how much less some groups count than others, as negative numbers, where they do."""

    def key(group: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(value for name, value in group.items() if name not in _COUNTS)

    known = {key(group): group for group in some}
    less = []
    for other in others:
        counts = {
            name: known.get(key(other), {}).get(name, 0) - other[name] for name in _COUNTS & other.keys()
        }
        if any(counts.values()):
            less.append({**other, **counts})
    return less


def _remove(run: _Run, tenant_id: str, kind: Kind, days: int, held: Sequence[Hold]) -> int:
    cutoff = run.now - timedelta(days=days)
    aged = _aged(run.database, tenant_id, kind, cutoff, held)
    if aged is None or not (groups := aged.groups()):
        return 0
    rows = _rows(groups)
    entry = {
        "run_at": run.now,
        "tenant_id": tenant_id,
        "kind": kind,
        "retention_days": days,
        "cutoff": cutoff,
    }
    run.account([{**entry, **group, "holds": [hold.hold_id for hold in held]} for group in groups])
    # Not before the account, without which the next run would count and state the same rows again; but before
    # they go, or they would be missed until the next run.
    run.state(tenant_id, kind, cutoff, days, rows)
    aged.delete()
    log.info("rows_expired", kind=kind, retention_days=days, rows_removed=rows)
    return rows
