"""What accesses across tenants and denied accesses look like, in sentences."""

from typing import Final

from detectors.episode import Episode, Story
from detectors.tally import Tally
from detectors.wording import clock_text, duration_text, plural

# A page that asks for what its user may not see asks for a handful of things; so many different ones is
# somebody trying every door.
PROBED_PERMISSIONS: Final = 8
HIGH_COUNT: Final = 64


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
        allowed = tally.marks
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


class DeniedTeller:
    """Names a user's denied accesses."""

    detector = "access_anomaly"
    rule = "denied"
    facts = Tally

    def tell(self, episode: Episode) -> Story:
        """Return what is to be said about the episode."""
        tally: Tally = episode.facts
        probing = len(tally.values) > PROBED_PERMISSIONS
        return Story(
            "permission_probing" if probing else "denied_burst",
            "high" if episode.count >= HIGH_COUNT else "medium",
            f"{plural(episode.count, 'access', 'es')} of {episode.key[2]} denied in "
            f"{duration_text(episode.last_ms - episode.first_ms)}, "
            f"{tally.count_text()} different permissions; last at {clock_text(episode.last_ms)}",
            {"denied": episode.count, "permissions": len(tally.values)},
            ("T1069",) if probing else ("T1078",),
            (
                "Ask what the user is looking for. Where nobody can say, revoke the sessions: whoever holds "
                "them is finding out what they may do."
            )
            if probing
            else (
                "Look whether a role was taken away or a client retries without end. If neither, revoke the "
                "sessions and ask the user."
            ),
        )
