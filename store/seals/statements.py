"""Signed statements: why rows are not there, who was forgotten, which key follows which.

Retention deletes, and so does whoever wants something gone. Rows that are missing are excused only by a
statement that the signing key made, not by a row of ``retention_runs``, which anybody can write who can
delete.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from store.database import Database, Guard
from store.seals.keys import STATEMENT, Signer, Trust, key_id, pem

StatementKind = Literal["retention", "shredded", "key", "end"]
_READ: Final = "SELECT tenant_id, kind, body, signature FROM seal_statements ORDER BY stated_at, kind"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Parameters
    ----------
    tenant_id
        Whom it is about; ``''`` is the platform.
    content
        What it says, by kind: ``retention`` has ``event_kind``, ``cutoff_ms``, ``retention_days``, ``rows``;
        ``shredded`` has ``subject``, the pseudonym that stays in the rows; ``key`` has ``public_key``;
        ``end`` has ``ended_key_id``, ``ended_at`` and ``heads``, digests of its seals that hold all the same.
    body, signature
        The bytes that are signed, and the signature in base64.
    """

    kind: StatementKind
    tenant_id: str
    content: Mapping[str, Any]
    stated_at: str
    key_id: str
    body: bytes
    signature: str

    @classmethod
    def make(
        cls,
        kind: StatementKind,
        tenant_id: str,
        content: Mapping[str, Any],
        now: datetime,
        signer: Signer,
    ) -> "Statement":
        """Return one, signed."""
        stated_at = now.astimezone(UTC).isoformat(timespec="milliseconds")
        head = {"kind": kind, "tenant_id": tenant_id, "stated_at": stated_at, "key_id": signer.key_id}
        body = json.dumps({**head, "content": content}, separators=(",", ":")).encode()
        signature = signer.sign(STATEMENT, body)
        return cls(kind, tenant_id, content, stated_at, signer.key_id, body, signature)

    @classmethod
    def read(cls, body: bytes, signature: str) -> "Statement":
        """Return one from its body.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            given = json.loads(body)
            return cls(
                given["kind"], given["tenant_id"], given["content"], given["stated_at"], given["key_id"],
                body, signature,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a statement: {error}") from error

    def holds(self, trust: Trust) -> bool:
        """Return whether a key that is believed signed it, while it was in use."""
        counts = trust.counts(self.key_id, self.stated_at)
        return counts and bool(trust.verifies(self.key_id, STATEMENT, self.body, self.signature))


def keep(database: Database, statements: Iterable[Statement], guard: Guard | None = None) -> None:
    """Store statements.

    Raises
    ------
    Fenced
        If the guard refused.
    """
    database.insert_rows(
        "seal_statements",
        [
            {
                "tenant_id": statement.tenant_id,
                "kind": statement.kind,
                "stated_at": datetime.fromisoformat(statement.stated_at),
                "body": statement.body.decode(),
                "signature": statement.signature,
            }
            for statement in statements
        ],
        guard,
    )


def read_statements(database: Database) -> tuple[list[Statement], int]:
    """Return the stored statements, oldest first, and how many rows are none."""
    found, broken = [], 0
    for row in database.query(_READ):
        try:
            found.append(Statement.read(row["body"].encode(), row["signature"]))
        except ValueError:
            broken += 1
    return found, broken


def state_key(new: Ed25519PublicKey, by: Signer, now: datetime) -> Statement:
    """Return the statement that seals of a new key are to be believed, made by the one before."""
    content = {"public_key": pem(new), "new_key_id": key_id(new)}
    return Statement.make("key", "", content, now, by)


def state_end(
    ended_key_id: str, ended_at: datetime, by: Signer, now: datetime, heads: Iterable[str] = ()
) -> Statement:
    """Return the statement that a key was in use until a time, made by one that followed it.

    Parameters
    ----------
    heads
        Digests of seals by it that no other follows yet and that hold all the same, with those before them.
    """
    content = {
        "ended_key_id": ended_key_id,
        "ended_at": ended_at.astimezone(UTC).isoformat(),
        "heads": sorted(heads),
    }
    return Statement.make("end", "", content, now, by)


def state_retention(
    tenant_id: str,
    kind: str,
    cutoff: datetime,
    retention_days: int,
    rows: int,
    now: datetime,
    signer: Signer,
) -> Statement:
    """Return the statement that retention removes a tenant's rows of a kind that are older than a moment.

    Parameters
    ----------
    rows
        How many; negative where so many of those that were stated stay.
    """
    content = {
        "event_kind": kind,
        "cutoff_ms": int(cutoff.timestamp() * 1000),
        "retention_days": retention_days,
        "rows": rows,
    }
    return Statement.make("retention", tenant_id, content, now, signer)


def stated_rows(
    database: Database, tenant_id: str, kind: str, cutoff: datetime, retention_days: int, signer: Signer
) -> int | None:
    """Return how many rows are stated of what a run of retention removes; None where nothing is.

    Of what the signer did not sign, only more rows count: a key before it may have, and who forges it can
    not have more stated.
    """
    like = state_retention(tenant_id, kind, cutoff, retention_days, 0, cutoff, signer).content
    sql = "SELECT body, signature FROM seal_statements WHERE tenant_id = {t:String} AND kind = 'retention'"
    own = Trust([signer.public])
    # Once: what a stolen key stated may be stated anew.
    found: set[tuple[str, int]] = set()
    for row in database.query(sql, {"t": tenant_id}):
        try:
            statement = Statement.read(row["body"].encode(), row["signature"])
            rows, same = int(statement.content["rows"]), {**statement.content, "rows": 0} == like
        except (KeyError, TypeError, ValueError):
            continue  # none, which `verify` names
        if same and (rows > 0 or statement.holds(own)):
            found.add((statement.stated_at, rows))
    return sum(rows for _, rows in found) if found else None


def state_shredded(tenant_id: str, subject: str, now: datetime, signer: Signer) -> Statement:
    """Return the statement that a person was forgotten; the rows keep the pseudonym, which is nobody's."""
    return Statement.make("shredded", tenant_id, {"subject": subject}, now, signer)


def read_shreddings(database: Database, tenant_id: str | None = None) -> dict[str, set[str]]:
    """Return by tenant the pseudonyms of people who were forgotten, as the vault has it.

    Unsigned, which does no harm: being forgotten excuses no missing and no altered row.
    """
    chosen = "1" if tenant_id is None else "tenant_id = {tenant:String}"
    rows = database.query(
        f"SELECT DISTINCT tenant_id, pseudonym FROM shreddings WHERE {chosen}",
        {} if tenant_id is None else {"tenant": tenant_id},
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["tenant_id"], set()).add(row["pseudonym"])
    return found


class Stated:
    """What statements that hold say, and which of them do not.

    Parameters
    ----------
    statements
        Oldest first.
    trust
        Keys that are believed; those that a statement introduces are added.
    """

    def __init__(self, statements: Sequence[Statement], trust: Trust) -> None:
        self.refused: list[Statement] = []
        self._cutoffs: dict[tuple[str, str], int] = {}
        self._rows: Counter[tuple[str, str]] = Counter()
        self.shredded: dict[str, set[str]] = {}
        # Which keys have ended is known when all keys are; an ended one may have introduced others since.
        every = Trust(trust.keys.values(), trust.ended)
        _introduce(statements, every)
        for key_id_, at in _ends(statements, every).items():
            trust.end(key_id_, at)
        self.refused += _introduce(statements, trust)
        self.refused = [s for s in self.refused if s.content["new_key_id"] not in trust.keys]
        for statement in statements:
            if statement.kind != "key":
                self._take(statement, trust)
        # What a stolen key stated another may have stated anew.
        held = [(s.tenant_id, s.stated_at, s.content) for s in statements if s.holds(trust)]
        self.refused = [
            s for s in self.refused if s.holds(trust) or (s.tenant_id, s.stated_at, s.content) not in held
        ]

    def _take(self, statement: Statement, trust: Trust) -> None:
        if not statement.holds(trust) or (statement.kind == "retention" and _is_foretold(statement)):
            self.refused.append(statement)
        elif statement.kind == "retention":
            key = (statement.tenant_id, statement.content["event_kind"])
            self._cutoffs[key] = max(self._cutoffs.get(key, 0), statement.content["cutoff_ms"])
            self._rows[key] += statement.content["rows"]
        elif statement.kind == "end":
            trust.vouched.update(statement.content["heads"])
        elif statement.kind == "shredded":
            self.shredded.setdefault(statement.tenant_id, set()).add(statement.content["subject"])

    def cutoff_ms(self, tenant_id: str, topic: str) -> int:
        """Return what is older than this was removed by retention: a tenant's events of a topic."""
        return self._cutoffs.get((tenant_id, topic.removeprefix("audit.")), 0)

    def rows(self, tenant_id: str, topic: str) -> int:
        """Return how many rows retention removed at most: a tenant's events of a topic."""
        return self._rows[tenant_id, topic.removeprefix("audit.")]


def _introduce(statements: Sequence[Statement], trust: Trust) -> list[Statement]:
    """Believe the keys that believed ones introduce, and return the statements of others.

    In any order: a statement may be older than the one that introduces its key.
    """
    keys = [statement for statement in statements if statement.kind == "key"]
    while believed := [statement for statement in keys if statement.holds(trust)]:
        for statement in believed:
            trust.add(statement.content["public_key"])
        keys = [statement for statement in keys if statement not in believed]
    return keys


def _ends(statements: Sequence[Statement], trust: Trust) -> dict[str, datetime]:
    """Return until when keys were in use, as those say that followed them: no key ends its successor."""
    by = {s.content["new_key_id"]: s.key_id for s in statements if s.kind == "key" and s.holds(trust)}
    found: dict[str, datetime] = {}
    for statement in statements:
        if statement.kind == "end" and statement.holds(trust):
            ended, before = statement.content["ended_key_id"], [statement.key_id]
            while (earlier := by.get(before[-1])) is not None and earlier not in before:
                before.append(earlier)
            if ended in before[1:]:
                at = datetime.fromisoformat(statement.content["ended_at"])
                found[ended] = min(at, found.get(ended, at))
    return found


def _is_foretold(statement: Statement) -> bool:
    """Return whether retention is said to have removed what was not yet there."""
    stated_ms = int(datetime.fromisoformat(statement.stated_at).timestamp() * 1000)
    return bool(statement.content["cutoff_ms"] > stated_ms)
