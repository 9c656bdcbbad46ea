"""Anchors: what the partitions' chains had come to, kept outside the store.

A chain proves what is in it, not that its end is still there: whoever can delete can cut off the last seals
with their rows. A head that is remembered elsewhere shows that. Partitions' own chains suffice, because each
of their seals names all tenants' seals of its round.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from store.files import write_whole
from store.seals.keys import MANIFEST, Trust
from store.seals.seal import Seal

log = structlog.get_logger()
LOG: Final = "anchors.ndjson"
HEADS: Final = "heads.json"
_LONGEST_LINE: Final = 1 << 16  # of an anchor; ids of Kafka clusters are short


@dataclass(frozen=True, slots=True, order=True)
class Anchor:
    """A head: which seal a partition's own chain had come to."""

    cluster_id: str
    partition: int
    sequence: int
    digest: str
    sealed_at: str

    @classmethod
    def of(cls, seal: Seal) -> "Anchor":
        """Return the anchor of a seal."""
        return cls(seal.chain.cluster_id, seal.chain.partition, seal.sequence, seal.digest, seal.sealed_at)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Anchor":
        """Return one from JSON; what else is there is not looked at.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            return cls(
                str(given["cluster_id"]), int(given["partition"]), int(given["sequence"]),
                str(given["digest"]), str(given.get("sealed_at", "")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an anchor: {given!r:.200}") from error


def read_anchors(file: Path, trust: Trust | None = None) -> Iterator[Anchor]:
    """Yield the anchors of a file: one, or a document of them as it was sent, a line.

    A last line that a crash left half written is passed over, and logged.

    Parameters
    ----------
    trust
        A document that one of these keys signed must be what was signed; None: nobody looks.

    Raises
    ------
    ValueError
        If a line is something else.
    """
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield from _read_line(line, trust)
            except ValueError as error:
                if not line.endswith("\n"):
                    log.warning("anchor_torn", file=str(file), line=number)
                    return
                raise ValueError(f"{file}, line {number}: {error}") from error


def _read_line(line: str, trust: Trust | None) -> list[Anchor]:
    given = json.loads(line)
    if not isinstance(given, dict):
        raise ValueError(f"not an anchor: {line[:200]}")
    # As it was sent to a webhook or a topic, too.
    found = [Anchor.read(one) for one in given.get("anchors", [given])]
    if trust is not None and "signature" in given:
        holds = trust.verifies(
            str(given.get("key_id")), MANIFEST, signed_part(found), str(given["signature"])
        )
        if holds is False:
            raise ValueError(f"it is not what the key {given.get('key_id')} signed")
    return found


def signed_part(anchors: Sequence[Anchor]) -> bytes:
    """Return the bytes of a document that its signature is over."""
    return json.dumps([anchor.as_dict() for anchor in anchors], separators=(",", ":")).encode()


class AnchorBook:
    """What this machine remembers: the newest heads, and a log of earlier ones that only grows.

    Parameters
    ----------
    directory
        Beside the store, not in it.
    log
        Another file for the log.
    """

    def __init__(self, directory: Path, log: Path | None = None) -> None:
        self._directory = directory
        self.log = log or directory / LOG
        self._heads = directory / HEADS

    def heads(self) -> dict[tuple[str, int], Anchor]:
        """Return the newest head of each partition that was sealed here."""
        if not self._heads.exists():
            return {}
        found = (Anchor.read(given) for given in json.loads(self._heads.read_text()))
        return {(anchor.cluster_id, anchor.partition): anchor for anchor in found}

    def remember(self, anchors: Iterable[Anchor]) -> None:
        """Take new heads in place of those before."""
        whole = self.heads() | {(anchor.cluster_id, anchor.partition): anchor for anchor in anchors}
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps([anchor.as_dict() for anchor in sorted(whole.values())])
        write_whole(self._heads, text.encode())

    def append(self, anchors: Iterable[Anchor]) -> None:
        """Add to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._mend()
        with self.log.open("a", encoding="utf-8") as file:
            for anchor in anchors:
                file.write(json.dumps(anchor.as_dict()) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _mend(self) -> None:
        """Cut off a last line that a crash left half written: what follows would stand in it."""
        if not self.log.exists():
            return
        with self.log.open("rb+") as file:
            first = max(file.seek(0, os.SEEK_END) - _LONGEST_LINE, 0)
            file.seek(first)
            end = file.read()
            if end and not end.endswith(b"\n"):
                log.warning("anchor_torn", file=str(self.log))
                file.truncate(first + end.rfind(b"\n") + 1)

    def all(self) -> list[Anchor]:
        """Return everything that is remembered, each once."""
        logged = list(read_anchors(self.log)) if self.log.exists() else []
        return sorted({*logged, *self.heads().values()})
