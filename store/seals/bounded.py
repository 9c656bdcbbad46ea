"""Verification for whoever asks over HTTP: of one tenant, of a part of its trail, and not for ever.

Chains are read from their first seal all the same: docs/trail.md says what else would be lost.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from store.database import Database
from store.queries import TenantContext
from store.seals.keys import Trust
from store.seals.trail import StoredTrail, Trail
from store.seals.verification import Verdict, Verification

# 1,000,000 rows take up to half a minute.
MAX_ROWS: Final = 1_000_000
MAX_S: Final = 60.0
# Nothing came before or will come after, and ClickHouse reads no time far outside.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


class TooMuch(Exception):
    """The part of the trail is too large to be verified while somebody waits; the message says what to do."""


def verify_part(
    database: Database,
    tenant: TenantContext,
    since: datetime,
    until: datetime,
    trust: Trust,
    anchors: Sequence[Mapping[str, Any]],
    monotonic_s: Callable[[], float],
) -> Verdict:
    """Verify the rows of a tenant that came in a span of time, and the chains around them.

    The verdict has nothing of other tenants: partitions' chains, which it rests on, name none.

    Raises
    ------
    TooMuch
        If there are too many rows, or it takes too long; verifying stops then.
    """
    since, until = (min(max(each, EARLIEST), LATEST) for each in (since, until))
    where, bound = tenant.condition()
    [counted] = database.query(
        f"SELECT count() AS rows FROM events WHERE {where} AND ingest_time >= {{since:DateTime64(3)}} "
        "AND ingest_time < {until:DateTime64(3)}",
        {**bound, "since": since, "until": until},
    )
    if counted["rows"] > MAX_ROWS:
        raise TooMuch(
            f"{counted['rows']:,} rows came then, and at most {MAX_ROWS:,} are verified at once: ask for a "
            "shorter time, or use `tenantwatch verify`"
        )
    trail = _Hurried(StoredTrail(database, since, until), monotonic_s)
    verification = Verification(cast(Trail, trail), trust, anchors, since, until)
    verdict = verification.run(tenant.tenant_id)
    verdict.findings = [f for f in verdict.findings if f.tenant_id in ("", tenant.tenant_id)]
    return verdict


class _Hurried:
    """A trail that is read until time is up."""

    def __init__(self, trail: Trail, monotonic_s: Callable[[], float]) -> None:
        self._trail = trail
        self._monotonic_s = monotonic_s
        self._until_s = monotonic_s() + MAX_S

    def __getattr__(self, name: str) -> Any:
        if self._monotonic_s() >= self._until_s:
            # However short the span, the partitions' chains are read from their first seal.
            raise TooMuch(
                f"it takes longer than {MAX_S:.0f} s: use `tenantwatch verify`, or have evidence exported "
                "and verify that"
            )
        return getattr(self._trail, name)
