"""Reading ``audit.alerts``: what workers of this version and of others wrote, and what somebody else did."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import ConfigDict, ValidationError, field_validator

from schemas.alert import Alert, Entity, Evidence
from streams import metrics
from streams.records import Records

log = structlog.get_logger()
MAX_REASON: Final = 500


class _ReceivedEntity(Entity):
    model_config = ConfigDict(extra="allow", frozen=True)


class _ReceivedEvidence(Evidence):
    model_config = ConfigDict(extra="allow", frozen=True)


class ReceivedAlert(Alert):
    """An alert as it came, with what a newer version says beyond it.

    While workers are replaced one by one, old ones read what new ones write.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    entity: _ReceivedEntity
    evidence: _ReceivedEvidence

    @field_validator("first_time", "last_time", "detected_at", "published_at")
    @classmethod
    def _in_utc(cls, time: datetime | None) -> datetime | None:
        try:
            return None if time is None else time.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("in UTC it is no date") from error  # and cannot be written as one


def read_alerts(chunks: Sequence[Records]) -> list[tuple[Alert, int]]:
    """Return the alerts of some chunks, each with its partition.

    Anybody who may write to the topic can write what is no alert: that must not stop the partition for ever,
    so it is told, counted and passed over.
    """
    found: list[tuple[Alert, int]] = []
    for chunk in chunks:
        for offset, value in zip(chunk.offsets, chunk.values, strict=True):
            try:
                found.append((ReceivedAlert.model_validate_json(value or b""), chunk.partition))
            except ValidationError as error:
                metrics.ALERTS_UNREADABLE.inc()
                # Never the input: it may be anybody's.
                problems = error.errors(include_input=False, include_url=False, include_context=False)
                reason = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
                log.error(
                    "alert_unreadable", partition=chunk.partition, offset=offset, reason=reason[:MAX_REASON]
                )
    return found
