"""A seal: what was sealed, bound to the seal before it and signed.

The body is JSON, and its bytes are what is hashed and signed; nothing is written anew to be checked. What it
is about, rows or the seals of a round, is in the contents, of which the body holds the digest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.batch import Int64s
from schemas.event import INDEX_BITS
from store.seals.canonical import CURRENT_FORM, LEAF_BYTES
from store.seals.keys import SEAL, Signer, Trust

VERSION: Final = 1
FIRST: Final = 1
MAX_INDEX: Final = (1 << INDEX_BITS) - 1
Leaves = NDArray[np.void]
LEAF: Final = np.dtype(f"V{LEAF_BYTES}")


class ChainId(NamedTuple):
    """Whose chain: a tenant's in one partition, or with ``tenant_id`` ``''`` the partition's own."""

    tenant_id: str
    cluster_id: str
    partition: int

    def __str__(self) -> str:
        whose = self.tenant_id or "all tenants"
        return f"{whose}, partition {self.partition}"


class Interval(NamedTuple):
    """Offsets of one topic, from ``first`` up to before ``next``, and how many rows they had."""

    topic_id: str
    topic: str
    first: int
    next: int
    rows: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one chain, in the order of topic id and identity.

    Parameters
    ----------
    ids
        ``(n,)`` offset and position in the message's array as one number.
    aged_ms
        ``(n,)`` what retention goes by: the later of ``time`` and ``ingest_time``.
    leaves
        ``(n,)`` hashes of the rows' canonical form.
    """

    ids: Int64s
    aged_ms: Int64s
    leaves: Leaves

    def __len__(self) -> int:
        return len(self.ids)

    def pack(self) -> bytes:
        """Return bytes; numbers as differences, which take next to nothing when compressed."""
        return b"".join(
            (
                np.diff(self.ids, prepend=np.int64(0)).astype("<i8").tobytes(),
                np.diff(self.aged_ms, prepend=np.int64(0)).astype("<i8").tobytes(),
                self.leaves.tobytes(),
            )
        )

    @classmethod
    def unpack(cls, contents: bytes, count: int) -> "Rows":
        """Return what was packed.

        Raises
        ------
        ValueError
            If these are not the bytes of so many rows.
        """
        if len(contents) != count * (16 + LEAF_BYTES):
            raise ValueError(f"{len(contents):,} bytes are not {count:,} rows")
        numbers = np.frombuffer(contents, "<i8", 2 * count)
        return cls(
            np.cumsum(numbers[:count], dtype=np.int64),
            np.cumsum(numbers[count:], dtype=np.int64),
            np.frombuffer(contents, LEAF, count, 16 * count),
        )


class Member(NamedTuple):
    """A tenant's seal of a round, as the partition's own chain names it."""

    tenant_id: str
    sequence: int
    digest: str


def pack_members(members: Sequence[Member]) -> bytes:
    """Return bytes of a round's seals: a JSON array a line."""
    return "\n".join(json.dumps(member, ensure_ascii=False) for member in members).encode()


def unpack_members(contents: bytes) -> list[Member]:
    """Return what was packed."""
    # At once: a call for each took longer than to check the seal's signature where a round has 20.
    lines = b",".join(line for line in contents.split(b"\n") if line)
    return [Member(*each) for each in json.loads(b"[%b]" % lines)]


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal.

    Parameters
    ----------
    chain, sequence
        Which one of which chain; the first is 1.
    previous
        Digest of the one before, ``''`` for the first.
    intervals
        Every topic that the chain has come to, with what is new; nothing where ``first`` is ``next``.
    rows
        How many.
    first_ingest_ms, last_ingest_ms
        ``ingest_time`` of the earliest and the latest row.
    form
        Canonical form of the rows.
    contents_digest
        SHA-256 of the contents.
    sealed_at
        RFC 3339.
    key_id
        Of the key that signed.
    body, signature
        The bytes that are signed, and the signature in base64.
    """

    chain: ChainId
    sequence: int
    previous: str
    intervals: tuple[Interval, ...]
    rows: int
    first_ingest_ms: int
    last_ingest_ms: int
    form: int
    contents_digest: str
    sealed_at: str
    key_id: str
    body: bytes = b""
    signature: str = ""

    @property
    def digest(self) -> str:
        """What the next seal names."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def position(self) -> dict[str, int]:
        """Topic id to the offset that the next seal begins with."""
        return {interval.topic_id: interval.next for interval in self.intervals}

    def signed(self, signer: Signer) -> "Seal":
        """Return it with its body and signature."""
        body = json.dumps(
            {
                "version": VERSION,
                "tenant_id": self.chain.tenant_id,
                "cluster_id": self.chain.cluster_id,
                "partition": self.chain.partition,
                "sequence": self.sequence,
                "previous": self.previous,
                "intervals": self.intervals,
                "rows": self.rows,
                "first_ingest_ms": self.first_ingest_ms,
                "last_ingest_ms": self.last_ingest_ms,
                "form": self.form,
                "contents": self.contents_digest,
                "sealed_at": self.sealed_at,
                "key_id": self.key_id,
            },
            separators=(",", ":"),
        ).encode()
        return replace(self, body=body, signature=signer.sign(SEAL, body))

    @classmethod
    def read(cls, body: bytes, signature: str) -> "Seal":
        """Return a seal from its body; whether the signature holds is `signature_holds`.

        Raises
        ------
        ValueError
            If the body is not one of a seal.
        """
        try:
            given = json.loads(body)
            return cls(
                ChainId(str(given["tenant_id"]), str(given["cluster_id"]), int(given["partition"])),
                int(given["sequence"]),
                str(given["previous"]),
                tuple(
                    Interval(str(i), str(t), int(f), int(n), int(r)) for i, t, f, n, r in given["intervals"]
                ),
                int(given["rows"]),
                int(given["first_ingest_ms"]),
                int(given["last_ingest_ms"]),
                int(given["form"]),
                str(given["contents"]),
                str(given["sealed_at"]),
                str(given["key_id"]),
                body,
                signature,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a seal: {error}") from error

    def signature_holds(self, trust: Trust) -> bool | None:
        """Return whether it was signed so; None if its key is not known."""
        return trust.verifies(self.key_id, SEAL, self.body, self.signature)

    def holds(self, contents: bytes) -> bool:
        """Return whether contents are what was sealed."""
        return hashlib.sha256(contents).hexdigest() == self.contents_digest


def next_seal(
    chain: ChainId,
    head: "Seal | None",
    reached: Mapping[str, tuple[str, int]],
    counts: Mapping[str, int],
    contents: bytes,
    ingest_ms: tuple[int, int],
    now: datetime,
    signer: Signer,
) -> Seal:
    """Return the seal that follows a chain's last one.

    Parameters
    ----------
    head
        The last one; None begins a chain.
    reached
        Topic id to the topic and the offset that it is sealed up to now.
    counts
        Topic id to how many rows are new.
    ingest_ms
        Earliest and latest.
    """
    known = {i.topic_id: (i.topic, i.next) for i in head.intervals} if head else {}
    whole = {**known, **reached}
    intervals = tuple(
        Interval(topic_id, topic, known.get(topic_id, ("", 0))[1], end, counts.get(topic_id, 0))
        for topic_id, (topic, end) in sorted(whole.items())
    )
    return Seal(
        chain,
        head.sequence + 1 if head else FIRST,
        head.digest if head else "",
        intervals,
        sum(counts.values()),
        *ingest_ms,
        CURRENT_FORM,
        hashlib.sha256(contents).hexdigest(),
        now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        signer.key_id,
    ).signed(signer)


def place(identity: int) -> dict[str, Any]:
    """Return a row's place in its topic.

    >>> place(41 << 10 | 2)
    {'offset': 41, 'index': 2}
    """
    return {"offset": int(identity) >> INDEX_BITS, "index": int(identity) & MAX_INDEX}
