"""The certificate of a forgetting: what was removed, what is left, and when the last raw copy goes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from schemas.alert import rfc3339
from schemas.personal import scrubbed
from store.seals.keys import CERTIFICATE, SealKeys, Trust

DEFAULT_RETENTION: Final = timedelta(days=7)
# Kafka looks for what has expired every five minutes, and deletes it a minute later.
KAFKA_DELAY: Final = timedelta(minutes=6)
# Returns what is put beside the digest: the key's id, the signature.
Sign = Callable[[bytes], Mapping[str, str]]


class TopicRetention(NamedTuple):
    """How long Kafka keeps what is in a topic.

    Parameters
    ----------
    retention_ms
        Of a segment, from its newest record on; -1: for ever.
    segment_ms
        How long a segment takes up records: so much older may its oldest be.
    """

    retention_ms: int
    segment_ms: int


def raw_copies(topics: Mapping[str, TopicRetention] | None, now: datetime) -> dict[str, Any]:
    """Return when Kafka's own retention removes the raw copies of what was produced up to now.

    Parameters
    ----------
    topics
        As Kafka has it; None: it could not be asked.
    """
    if topics is None:
        return {
            "asked": False,
            "gone_by": rfc3339(now + 2 * DEFAULT_RETENTION + KAFKA_DELAY),
            "note": "Kafka could not be asked; with its default of 7 days, and 7 days for a segment",
        }
    told = {}
    for name, kept in sorted(topics.items()):
        longest = timedelta(milliseconds=kept.retention_ms + kept.segment_ms) + KAFKA_DELAY
        told[name] = {
            "retention_ms": kept.retention_ms,
            "segment_ms": kept.segment_ms,
            "gone_by": None if kept.retention_ms < 0 else rfc3339(now + longest),
        }
    last = [topic["gone_by"] for topic in told.values()]
    endless = sorted(name for name, topic in told.items() if topic["gone_by"] is None)
    note = "original messages, dead letters too, until then; nothing of them can be read through tenantwatch"
    return {
        "asked": True,
        "topics": told,
        "gone_by": None if endless or not last else max(map(str, last)),
        "note": f"never: {', '.join(endless)} has no end of retention" if endless else note,
    }


def certificate(
    *,
    certificate_id: str,
    tenant_id: str,
    pseudonyms: Sequence[str],
    actor: str,
    reason: str,
    now: datetime,
    removed: Mapping[str, int],
    kept: Mapping[str, int],
    kafka: Mapping[str, Any],
    sign: Sign | None = None,
) -> dict[str, Any]:
    """Return a certificate with its digest, and signed if there is who signs."""
    content: dict[str, Any] = {
        "certificate_id": certificate_id,
        "what": "forgotten",
        "tenant_id": tenant_id,
        "pseudonyms": list(pseudonyms),
        "requested_by": actor,
        "reason": scrubbed(reason),
        "forgotten_at": rfc3339(now),
        "removed": {
            "rows": dict(removed),
            "what": "the encrypted original and the only copy of its key; no file of the store holds them",
        },
        "kept": {
            "rows": dict(kept),
            "what": "the trail is not rewritten: these rows hold the pseudonym, which leads to nobody now",
        },
        "kafka": dict(kafka),
        "backups": "backups of the store made before forgotten_at hold the row until they are deleted",
        "returning": "an event after forgotten_at brings a new row and key, and the same pseudonym",
    }
    digest = hashlib.sha256(canonical(content))
    signature = dict(sign(canonical(content))) if sign is not None else None
    return {**content, "digest": f"sha256:{digest.hexdigest()}", "signature": signature}


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are digested and signed: without the digest and the signature themselves.

    >>> canonical({"b": 1, "a": "x", "digest": "…"})
    b'{"a":"x","b":1}'
    """
    told = {name: value for name, value in content.items() if name not in ("digest", "signature")}
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def is_untouched(told: Mapping[str, Any]) -> bool:
    """Return whether a certificate's content is what its digest says."""
    return told.get("digest") == f"sha256:{hashlib.sha256(canonical(told)).hexdigest()}"


def signing(ring: SealKeys | None) -> Sign | None:
    """Return what signs certificates with the key that seals are signed with; None where there is none.

    The key of the moment: it may be rotated while a process runs.
    """
    if ring is None:
        return None

    def sign(content: bytes) -> dict[str, str]:
        return {"key_id": ring.signer.key_id, "signature": ring.signer.sign(CERTIFICATE, content)}

    return sign


def why_not_proven(told: Mapping[str, Any], trust: Trust) -> str | None:
    """Return why a certificate proves nothing, in words; None if a key that is believed signed it as it is.

    Needs nothing but the certificate and the public key.
    """
    signature = told.get("signature")
    if not is_untouched(told):
        return "it was changed: its digest is another"
    if not isinstance(signature, Mapping):
        return "it is not signed"
    key_id = str(signature.get("key_id"))
    verified = trust.verifies(key_id, CERTIFICATE, canonical(told), str(signature.get("signature")))
    if verified is None:
        known = ", ".join(sorted(trust.keys))
        return f"the key {key_id} signed it, which is not believed here; believed: {known}"
    return None if verified else f"it was changed, or the key {key_id} never signed it"
