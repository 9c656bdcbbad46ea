"""Answers to requests that may be sent twice, kept for a day."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from store.database import Database
from store.queries import TenantContext

# The table's TTL is as long, but takes rows away when it comes to it.
KEPT: Final = timedelta(days=1)


@dataclass(frozen=True)
class Request:
    """A request with an Idempotency-Key.

    Parameters
    ----------
    tenant
        Whom it is for.
    subject
        Who sent it: one caller's keys are not another's.
    key, body
        As they came.
    """

    tenant: TenantContext
    subject: str
    key: str
    body: bytes

    @property
    def place(self) -> tuple[str, str, str]:
        """What two requests with the same key have in common, whatever their bodies."""
        return self.tenant.tenant_id, self.subject, self.key

    def hashes(self) -> tuple[str, str]:
        """Return what the key and the body are kept as."""
        return hashlib.sha256(self.key.encode()).hexdigest(), hashlib.sha256(self.body).hexdigest()


class OtherRequest(Exception):
    """The key was used for a request with another body."""


def answer_of(database: Database, request: Request, now: datetime) -> dict[str, Any] | None:
    """Return the answer to the same request, if there was one within a day.

    Raises
    ------
    OtherRequest
        If the key belongs to another request.
    """
    where, bound = request.tenant.condition()
    key_hash, request_hash = request.hashes()
    rows = database.query(
        f"SELECT request_hash, answer FROM idempotent_answers FINAL WHERE {where} "
        "AND subject IN {private_subject:Array(String)} AND key_hash = {key_hash:String} "
        "AND created_at > {since:DateTime64(3, 'UTC')}",
        {**bound, "private_subject": [request.subject], "key_hash": key_hash, "since": now - KEPT},
    )
    if not rows:
        return None
    if rows[0]["request_hash"] != request_hash:
        raise OtherRequest
    answer: dict[str, Any] = json.loads(rows[0]["answer"])
    return answer


def keep_answer(database: Database, request: Request, answer: dict[str, Any], now: datetime) -> None:
    """Keep the answer to a request."""
    key_hash, request_hash = request.hashes()
    row = {
        "tenant_id": request.tenant.tenant_id,
        "subject": request.subject,
        "key_hash": key_hash,
        "request_hash": request_hash,
        "answer": json.dumps(answer),
        "created_at": now,
    }
    database.insert_rows("idempotent_answers", [row])
