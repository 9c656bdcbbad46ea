"""Which routes of a tenant are told apart: the first ones, and all others are one."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from detectors.columns import Hashed
from detectors.keys import fingerprints
from detectors.service_health_rule import MAX_ROUTES
from detectors.service_health_silence import FORGET_MS
from detectors.service_health_traffic import Traffic
from schemas.batch import Int64s

# Services that report paths in the place of templates have routes without end.
OTHER: Final = "(other)"


def routes_of(traffic: Traffic, tenants: Hashed, routes: Hashed, owner: Int64s, time_ms: Int64s) -> Int64s:
    """Return ``(n,)`` the number of each request's route; routes that are new get one.

    A tenant has room for `MAX_ROUTES` that were called within four weeks; while there is none left, new ones
    are counted together.

    Parameters
    ----------
    traffic
        Of routes; changed.
    tenants, routes
        ``(n,)`` names.
    owner
        ``(n,)`` number of the tenant.
    time_ms
        ``(n,)`` never running backwards within a tenant.
    """
    rows = np.arange(len(owner))
    prints = fingerprints((tenants, "http_route", routes), rows)
    slot = traffic.keys.find_prints(prints)
    unseen = np.flatnonzero(slot < 0)
    back = (
        slot[traffic.last_ms[slot] + FORGET_MS <= time_ms] if len(slot) and len(traffic.last_id) else slot[:0]
    )
    if len(unseen) or len(back):
        _, first = np.unique(prints[unseen], return_index=True)
        known = np.bincount(traffic.owner[: len(traffic.last_id)], minlength=int(owner.max()) + 1)
        known += np.bincount(owner[unseen[first]], minlength=len(known))
        crowded = np.flatnonzero(known[owner] > MAX_ROUTES)
        if len(crowded):
            routes = Hashed(_folded(traffic, routes, owner, time_ms, crowded.tolist()))
        slot = traffic.keys.intern((tenants, "http_route", routes), rows)
        old = len(traffic.last_id)
        _, place = np.unique(slot, return_index=True)
        traffic.reserve(owner[place[slot[place] >= old]])
    return slot


def _folded(
    traffic: Traffic, routes: Hashed, owner: Int64s, time_ms: Int64s, rows: Iterable[int]
) -> list[str]:
    """Return the routes, with `OTHER` for those without room, in order of arrival."""
    names = list(routes.values)
    last_of: dict[int, dict[str, int]] = {}
    full_until: dict[int, int] = {}
    for row in rows:
        tenant, now = int(owner[row]), int(time_ms[row])
        if tenant not in last_of:
            slots = np.flatnonzero(traffic.owner[: len(traffic.last_id)] == tenant).tolist()
            last_of[tenant] = {traffic.keys[slot][2]: int(traffic.last_ms[slot]) for slot in slots}
            last_of[tenant].pop(OTHER, None)
        last_ms = last_of[tenant]
        since = now - FORGET_MS
        if last_ms.get(names[row], -1) <= since:
            # Nothing is forgotten before the one that is heard of least.
            live = MAX_ROUTES
            if now >= full_until.get(tenant, 0):
                heard = [at for at in last_ms.values() if at > since]
                live = len(heard)
                if live >= MAX_ROUTES:
                    full_until[tenant] = min(heard) + FORGET_MS
            if live >= MAX_ROUTES:
                names[row] = OTHER
                continue
        last_ms[names[row]] = now
    return names
