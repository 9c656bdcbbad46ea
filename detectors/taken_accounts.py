"""Accounts that guessers may have got into: one alert for all of them, or as many as its evidence holds."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from detectors.columns import Hashed
from detectors.episode import Episode, alert_of
from detectors.episodes import EpisodeRule
from detectors.failed_login_stories import TakenFacts
from detectors.keys import Key, Keys
from schemas.alert import MAX_EVIDENCE_IDS, Alert

# In the middle of guessing one login is enough, whatever else is known of it.
SCORE: Final = 1.0
THRESHOLD: Final = 0.0


class Taken(NamedTuple):
    """A login from a new place in the middle of guessing at its tenant.

    Parameters
    ----------
    tenant_id, time_ms, event_id
        Whose, when, and which.
    user_id, source_ip
        Who, and from where.
    quiet_ms
        After which quiet an episode is over.
    """

    tenant_id: str
    time_ms: int
    event_id: str
    user_id: str
    source_ip: str | None
    quiet_ms: int


def tell_taken(rule: EpisodeRule, logins: Sequence[Taken]) -> list[Alert]:
    """Return the revisions that logins give rise to.

    A revision is cut for every account, too: nobody should have to wait for the next power of two to learn
    that there is one more to be locked.

    Parameters
    ----------
    rule
        With the open episodes; changed.
    logins
        In order of arrival for each tenant.
    """
    _show(rule, logins)
    alerts: list[Alert] = []
    for login in logins:
        over = rule.episodes.end_due(login.tenant_id, login.time_ms)
        alerts += [alert_of(rule.teller, episode, "resolved") for episode in over]
        episode = _find(rule, login)
        is_new = episode is None or login.user_id not in episode.facts.logins
        if episode is None:
            # By its begin: full ones stay open beside the one that takes up more.
            key = (login.tenant_id, "tenant_id", str(login.time_ms))
            times = (login.time_ms,) * 3
            episode = Episode(
                key, *times, login.quiet_ms, facts=TakenFacts(), score=SCORE, threshold=THRESHOLD
            )
            rule.episodes.start(episode)
        episode.facts.add(login.user_id, login.source_ip)
        episode.extend([login.event_id], login.time_ms)
        if is_new or episode.count.bit_count() == 1:
            alerts.append(alert_of(rule.teller, episode, "updated" if episode.revision else "open"))
    return alerts


def _find(rule: EpisodeRule, login: Taken) -> Episode | None:
    """Return the open episode that a login belongs to: its account's, or the latest that has room."""
    mine = list(rule.episodes.open.get(login.tenant_id, {}).values())
    for episode in mine:
        if login.user_id in episode.facts.logins:
            return episode
    latest = max(mine, key=lambda episode: episode.first_ms, default=None)
    # As long as evidence has room: whoever gets the alert finds a login of each account in it. And an alert's
    # id is made of its begin: a second one that begins in the same millisecond would have the same.
    has_room = latest and (latest.count < MAX_EVIDENCE_IDS or latest.first_ms == login.time_ms)
    return latest if has_room else None


def _show(rule: EpisodeRule, logins: Sequence[Taken]) -> None:
    """Show to whoever listens that these logins were enough."""
    if rule.watch is None or not logins:
        return
    tenants = Hashed([login.tenant_id for login in logins])
    rows, keys = np.arange(len(logins)), Keys[Key]()
    slot = keys.intern((tenants, "tenant_id", tenants), rows)
    time_ms = np.array([login.time_ms for login in logins], np.int64)
    scores, thresholds = np.full(len(logins), SCORE), np.full(len(logins), THRESHOLD)
    ids = [login.event_id for login in logins]
    rule.watch.see(keys, slot, time_ms, ids, lambda at: (scores[at], thresholds[at]))
