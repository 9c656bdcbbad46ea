"""Across tenants: accesses to a resource of another tenant, or with its token."""

from collections.abc import Sequence

import numpy as np

from detectors.bucket_pass import fold_buckets
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events
from detectors.columns import Hashed, taken, values_at
from detectors.episode import Episode, Story
from detectors.tally import Tally
from detectors.wording import clock_text, plural
from schemas.alert import Alert
from schemas.batch import Bools, Column, EventBatch, Int64s


class CrossTenantTeller:
    """Names accesses that reach from one tenant into another."""

    detector = "access_anomaly"
    rule = "cross_tenant"
    facts = Tally

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        tally: Tally = episode.facts
        names = sorted(tally.values)
        whom = names[0] if len(names) == 1 else f"{tally.count_text()} other tenants"
        # Not the tally's marks: those end where it is full.
        allowed = int(episode.score) if episode.grade else 0
        if allowed:
            verdict = f"{plural(allowed, 'access', 'es')} allowed"
            runbook = (
                "A wall between tenants did not hold: stop the service or revoke the token now, find the "
                "check that was missing, and tell both tenants what was read or changed."
            )
        else:
            verdict = f"{plural(episode.count, 'access', 'es')} denied"
            runbook = (
                "The wall held. Find out whether a service mixes up tenants or somebody tries; in the latter "
                "case revoke the token and watch what else its owner does."
            )
        who = "somebody" if episode.key[1] == "tenant_id" else episode.key[2]
        return Story(
            "cross_tenant",
            "critical" if allowed else "high",
            f"{who} {'reached' if allowed else 'tried to reach'} into {whom}: {verdict}; "
            f"last at {clock_text(episode.last_ms)}",
            {"accesses": episode.count, "allowed": allowed, "other_tenants": len(names)},
            ("T1078", "T1550.001"),
            runbook,
        )


def other_tenants(batch: EventBatch, rows: Int64s) -> Column | None:
    """Return ``(n,)`` the other tenant that an access involves; None: it stays at home, or all do.

    Parameters
    ----------
    batch, rows
        Accesses, and ``(n,)`` positions.
    """
    home, owner, token = (
        taken(batch, name, rows) for name in ("tenant_id", "resource_tenant_id", "token_tenant_id")
    )
    # Mostly nobody leaves home: found out at the speed of comparing lists.
    if all(column.count(None) == len(rows) or column == home for column in (owner, token)):
        return None
    return [
        o if o is not None and o != h else t if t != h else None
        for h, o, t in zip(home, owner, token, strict=True)
    ]


def fold_cross_tenant(
    batch: EventBatch,
    state: BucketState,
    rows: Int64s,
    time_ms: Int64s,
    rule: Int64s,
    others: Column,
    rules: Sequence[Buckets],
) -> list[Alert]:
    """Return the revisions that accesses across tenants give rise to; one that was allowed is enough.

    Parameters
    ----------
    batch
        Not changed.
    state
        Changed.
    rows, time_ms, rule
        ``(n,)`` positions, ascending; event times; which of the rules holds.
    others
        ``(n,)`` the other tenants.
    rules
        Buckets by number.
    """
    allowed: Bools = ~batch.failed[rows]
    events = Events(
        state.keys.intern(_who(batch, rows), np.arange(len(rows))),
        time_ms,
        rule,
        values_at(batch.columns["event_id"], rows),
        others,
        marks=allowed,
        forced=allowed,
    )
    alerts, _ = fold_buckets(state, events, rules)
    return alerts


def _who(batch: EventBatch, rows: Int64s) -> tuple[Hashed, Hashed, Hashed]:
    """Return who made each access: the user, else the address, else somebody of the tenant."""
    tenants, users, addresses = (
        values_at(batch.columns[name], rows) for name in ("tenant_id", "user_id", "source_ip")
    )
    entity_types: list[str] = []
    values: list[str] = []
    for tenant_id, user, address in zip(tenants, users, addresses, strict=True):
        candidates = (("user_id", user), ("source_ip", address), ("tenant_id", tenant_id))
        entity_type, value = next(pair for pair in candidates if pair[1] is not None)
        entity_types.append(entity_type)
        values.append(value)
    return Hashed(tenants), Hashed(entity_types), Hashed(values)
