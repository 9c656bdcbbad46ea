"""An alert that a program of another version may have written."""

from datetime import UTC, datetime

from pydantic import ConfigDict, field_validator

from schemas.alert import Alert, Entity, Evidence


class ReceivedEntity(Entity):
    """Whom it is about, as it came."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ReceivedEvidence(Evidence):
    """Its evidence, as it came."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ReceivedAlert(Alert):
    """An alert as it came, with what a newer version says beyond it.

    While processes are replaced one by one, old ones read what new ones write: in Kafka and in the store.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    entity: ReceivedEntity
    evidence: ReceivedEvidence

    @field_validator("first_time", "last_time", "detected_at", "published_at")
    @classmethod
    def _in_utc(cls, time: datetime | None) -> datetime | None:
        try:
            return None if time is None else time.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("in UTC it is no date") from error  # and cannot be written as one
