"""Denials: the same thing again and again, one permission after the other, one resource after the other.

A client that works is let in far more often than not, so what a user was allowed in between empties the
buckets as time does: a busy service with a few denials in a hundred never fills them, a burglar does.
Who names no user is whoever calls from the address.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from detectors.bucket_pass import fold_buckets
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events
from detectors.columns import Hashed, values_at
from detectors.episode import Episode, Story
from detectors.parameters import AccessAnomalyParameters
from detectors.tally import Tally
from detectors.wording import clock_text, duration_text, plural
from schemas.alert import Alert
from schemas.batch import EventBatch, Int64s

# Reasons for which nobody was denied anything: the service failed, the request made no sense to it, or a
# program tried of itself what its user never asked for.
FAULTS: Final = frozenset(
    {
        "bad_request",
        "conflict",
        "error",
        "internal_error",
        "invalid",
        "privilege_not_held",
        "rate_limited",
        "service_unavailable",
        "timeout",
        "too_many_requests",
        "unavailable",
        "validation_error",
    }
)
# Whoever guesses may be told either; what is not there says nothing of permissions.
NOT_FOUND: Final = frozenset({"deleted", "gone", "no_such_resource", "not_found", "unknown_resource"})
WIDTH: Final = 6

# A page that asks for what its user may not see asks for a handful of things; so many different ones is
# somebody trying every door.
PROBED_PERMISSIONS: Final = 8
# Somebody who asks mostly for something else each time is looking for what there is. What is not there fills
# no bucket of denials, so repeating it makes no burst of them.
ENUMERATED_SHARE: Final = 0.7
# From here on somebody should look now, not today.
HIGH_COUNT: Final = 64
# Between permission and resource; neither has it.
_AND: Final = "\x1f"

ATTACK: Final = {
    "denied_burst": ("T1078",),
    "permission_probing": ("T1069",),
    "enumeration": ("T1526", "T1119"),
}
RUNBOOK: Final = {
    "denied_burst": (
        "Look whether a role was taken away or a client retries without end. If neither, revoke the sessions "
        "and ask the user."
    ),
    "permission_probing": (
        "Ask what the user is looking for. Where nobody can say, revoke the sessions: whoever holds them is "
        "finding out what they may do."
    ),
    "enumeration": (
        "Look at the ids: in a row or invented, somebody is guessing; then revoke the sessions and look for "
        "accesses among them that succeeded. If a client works through an old list, have it mended."
    ),
}
ANONYMOUS_RUNBOOK: Final = (
    "Look what the address asked for and whether anything was let through. Block it or slow it down, and see "
    "that the service answers the same for what is not there and what is not allowed."
)


def classify(permissions: int, resources: int, denied: int) -> str:
    """Return the name of what a user does.

    Parameters
    ----------
    permissions
        Different ones denied.
    resources
        Different ones denied, or not found.
    denied
        Accesses denied.

    >>> classify(1, 1, 40), classify(12, 30, 40), classify(1, 30, 40), classify(0, 30, 0)
    ('denied_burst', 'permission_probing', 'enumeration', 'enumeration')
    """
    if permissions > PROBED_PERMISSIONS:
        return "permission_probing"
    if resources > ENUMERATED_SHARE * denied:
        return "enumeration"
    return "denied_burst"


class DeniedTeller:
    """Names denied accesses of a user, or of nobody from one address."""

    detector = "access_anomaly"
    rule = "denied"
    facts = Tally

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        tally: Tally = episode.facts
        pairs = [value.split(_AND) for value in tally.values]
        permissions, resources = ({pair[i] for pair in pairs} - {""} for i in range(2))
        denied = tally.events - tally.marks
        classification = classify(len(permissions), len(resources), denied)
        kind, different = (
            ("resource", resources) if classification == "enumeration" else ("permission", permissions)
        )
        least = "at least " if tally.full else ""
        # Not every producer names permissions.
        of_what = f", {least}{plural(len(different), f'different {kind}')}" if different else ""
        met = "denied" if not tally.marks else "denied or not found" if denied else "not found"
        anonymous = episode.key[1] == "source_ip"
        return Story(
            classification,
            "high" if episode.count >= HIGH_COUNT else "medium",
            f"{plural(episode.count, 'access', 'es')} {'without a user from' if anonymous else 'of'} "
            f"{episode.key[2]} {met} in "
            f"{duration_text(episode.last_ms - episode.first_ms)}{of_what}; "
            f"last at {clock_text(episode.last_ms)}",
            {"accesses": episode.count, "permissions": len(permissions), "resources": len(resources)},
            ATTACK[classification],
            ANONYMOUS_RUNBOOK if anonymous else RUNBOOK[classification],
        )


def denials_of(p: AccessAnomalyParameters) -> Buckets:
    """Return the buckets that parameters amount to."""
    sizes_and_leaks_s = (
        # Says how long a user's permissions and resources are remembered.
        (0, max(p.new_permissions_leak_s, p.slow_resources_leak_s, p.neighbours_leak_s)),
        (p.denied, p.denied_leak_s),
        (p.resources, p.resources_leak_s),
        (p.slow_resources, p.slow_resources_leak_s),
        (p.new_permissions, p.new_permissions_leak_s),
        (p.neighbours, p.neighbours_leak_s),
    )
    return Buckets(
        tuple(size for size, _ in sizes_and_leaks_s),
        tuple(1000 * leak_s for _, leak_s in sizes_and_leaks_s),
        1000 * p.quiet_s,
        strange=1,
        new=2,
        more=1,
        near=1,
        successes=p.allowed_per_denied,
    )


def fold_denials(
    batch: EventBatch,
    columns: Mapping[str, Hashed],
    entity_type: str,
    state: BucketState,
    rows: Int64s,
    time_ms: Int64s,
    rule: Int64s,
    rules: Sequence[Buckets],
) -> list[Alert]:
    """Return the revisions that accesses give rise to.

    Parameters
    ----------
    batch, columns
        The batch, and its columns by field name.
    entity_type
        The field that says who made the accesses.
    state
        Changed.
    rows, time_ms, rule
        ``(n,)`` positions of accesses at home that have it, ascending; event times; which of the rules holds.
    rules
        By number.
    """
    if not len(rows):
        return []
    failed = batch.failed[rows]
    at = failed.nonzero()[0]
    reasons = values_at(batch.columns["reason"], rows[at])
    denied = np.array([reason not in FAULTS for reason in reasons], np.bool_)
    found = np.array([reason not in NOT_FOUND for reason in reasons], np.bool_)
    at, found = at[denied], found[denied]
    who = (columns["tenant_id"], entity_type, columns[entity_type])
    slot = state.keys.intern(who, rows[at])
    if not len(state.keys):
        return []
    allowed = (~failed).nonzero()[0]
    good = state.take_good(slot, at, state.keys.find(who, rows[allowed]), allowed)
    if not len(at):
        return []
    rows = rows[at]
    permissions = [
        permission if permission and there else ""
        for there, permission in zip(found, values_at(batch.columns["permission"], rows), strict=True)
    ]
    resources = [resource or "" for resource in values_at(batch.columns["resource_id"], rows)]
    events = Events(
        slot,
        time_ms[at],
        rule[at],
        values_at(batch.columns["event_id"], rows),
        [f"{one}{_AND}{other}" for one, other in zip(permissions, resources, strict=True)],
        marks=~found,
        forced=np.zeros(len(at), np.bool_),
        kinds=(
            [resource or None for resource in resources],
            [permission or None for permission in permissions],
        ),
        strange=found,
        good=good,
    )
    alerts, _ = fold_buckets(state, events, rules)
    return alerts
