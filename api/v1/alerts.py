"""Alerts that the API itself raises, about its own callers."""

from datetime import datetime
from typing import Final

from schemas.alert import Alert, Entity, Evidence, alert_id, from_ms, to_ms
from store.refresh_tokens import RefreshToken

DETECTOR: Final = "token_reuse"


def reuse_alert(token: RefreshToken, tenant_id: str, subject: str, now: datetime) -> Alert:
    """Return the alert on a refresh token that was used twice; the same for each further use of its family.

    It is published from here, not found in the events by a detector: the family is revoked by whoever sees
    the second use, and that must be told even if the event about it is dropped.

    Parameters
    ----------
    subject
        Whose token it is, as it stands in the trail.
    """
    entity = Entity(type="user_id", value=subject)
    first = from_ms(to_ms(token.issued_at))
    return Alert(
        alert_id=alert_id(DETECTOR, token.family_id, tenant_id, entity, 0),
        revision=1,
        status="open",
        detector=DETECTOR,
        classification="refresh_token_reused",
        severity="high",
        tenant_id=tenant_id,
        entity=entity,
        first_time=first,
        last_time=max(now, first),
        event_count=2,
        score=2.0,
        threshold=2.0,
        summary=f"A refresh token of {subject} was used twice: one of the two users has a copy",
        evidence=Evidence(numbers={"uses": 2, "family_id": token.family_id}),
        attack=["T1528"],
        runbook="All tokens of the sign-in are revoked. Find out which client lost its token; let it sign in "
        "again, or rotate its key with `tenantwatch keys rotate`.",
        detected_at=now,
        published_at=now,
    )
