"""Reading ``audit.alerts``: what workers of this version and of others wrote, and what somebody else did."""

from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import ValidationError

from schemas.alert import Alert
from schemas.received_alert import ReceivedAlert
from streams import metrics
from streams.records import Records

log = structlog.get_logger()
MAX_REASON: Final = 500


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
