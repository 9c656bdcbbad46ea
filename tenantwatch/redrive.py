"""Sending dead letters again: which ones, and what became of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from streams.dead_letters import Letter, Source, count_events, rejected_part
from streams.letter_log import LetterLog
from tenantwatch.control import Control

PAGE: Final = 10_000
# Claimed, sent and noted together: what a kill leaves in doubt.
BATCH_MESSAGES: Final = 100
BATCH_BYTES: Final = 4 * 1024 * 1024
_PLACE: Final = (
    "tenant_id",
    "kafka_cluster_id",
    "kafka_topic_id",
    "kafka_topic",
    "kafka_partition",
    "kafka_offset",
)

Row = dict[str, Any]


def source_of(row: Mapping[str, Any]) -> Source:
    """Return where the message of a row of ``dead_letters`` was."""
    return Source(row["kafka_topic"], row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"])


def find_letter(log: LetterLog, row: Row) -> Letter | None:
    """Return the letter of a row, unless Kafka has let go of it."""
    return next(log.find([source_of(row)], datetime.fromisoformat(row["rejected_at"])), None)


def pages(control: Control, chosen: Mapping[str, Any], limit: int) -> Iterator[list[Row]]:
    """Yield the rows that a filter chooses, the oldest first, in lists of up to 10,000.

    Parameters
    ----------
    chosen
        Parameters of ``/dead-letters``.
    limit
        How many there are when it begins: sending letters again may bring about new ones, which come last.
    """
    seen: set[Source] = set()
    since = chosen.get("since")
    while limit > 0:
        rows = control.get("/dead-letters", **{**chosen, "since": since}, oldest_first=True, limit=PAGE)
        # A page may end between rows of the same millisecond, so that millisecond is looked at again.
        new = [row for row in rows if source_of(row) not in seen][:limit]
        if not new:
            return
        yield new
        seen.update(map(source_of, new))
        limit -= len(new)
        since = datetime.fromisoformat(new[-1]["rejected_at"])


class _Message(NamedTuple):
    row: Row
    letter: Letter
    value: bytes | None


class Redrive:
    """Sends the messages of dead letters to the topics that they came from, and counts.

    Parameters
    ----------
    control
        Where it is noted what was sent.
    log
        Where the bytes are, and where they go.
    again
        Those too that were sent before.
    dry_run
        Only count.
    complain
        Told why one could not be sent.

    Attributes
    ----------
    messages, events
        Sent, or with `dry_run` to be sent; of an array only the events that were rejected.
    gone
        Kafka holds them no longer.
    refused
        Kafka did not take them.
    taken
        Somebody else was faster.
    """

    def __init__(
        self,
        control: Control,
        log: LetterLog,
        *,
        again: bool = False,
        dry_run: bool = False,
        complain: Callable[[str], None],
    ) -> None:
        self._control = control
        self._log = log
        self._again = again
        self._dry_run = dry_run
        self._complain = complain
        self.messages = self.events = self.gone = self.refused = self.taken = 0

    def run(self, rows: Sequence[Row]) -> None:
        """Send the messages of some rows of ``dead_letters``."""
        waiting = {source_of(row): row for row in rows}
        oldest = min(datetime.fromisoformat(row["rejected_at"]) for row in rows)
        batch: list[_Message] = []
        size = 0
        for letter in self._log.find([*waiting], oldest):
            row = waiting.pop(letter.source)
            if letter.left_out:
                self._refuse(letter, letter.left_out)
                continue
            try:
                value = rejected_part(letter.value, row["reason"], row["rejected_indexes"])
            except ValueError as error:
                self._refuse(letter, f"its array cannot be taken apart: {error}")
                continue
            batch.append(_Message(row, letter, value))
            size += len(value or b"")
            if len(batch) >= BATCH_MESSAGES or size >= BATCH_BYTES:
                self._send(batch)
                batch, size = [], 0
        self._send(batch)
        self.gone += len(waiting)

    def _refuse(self, letter: Letter, why: str) -> None:
        self.refused += 1
        self._complain(f"{letter.source}: not sent: {why}")

    def _send(self, batch: Sequence[_Message]) -> None:
        if self._dry_run:
            self._count(batch)
            return
        claimed = {source_of(row) for row in self._note("sending", batch)}
        chosen = [message for message in batch if message.letter.source in claimed]
        self.taken += len(batch) - len(chosen)
        errors = self._log.send_again((message.letter, message.value) for message in chosen)
        sent: list[_Message] = []
        failed: list[_Message] = []
        for message, error in zip(chosen, errors, strict=True):
            if error is None:
                sent.append(message)
                continue
            self._refuse(message.letter, str(error) or type(error).__name__)
            # After a time-out nobody knows whether Kafka has it: then it stays claimed.
            if not error.retriable:
                failed.append(message)
        self._note("sent", sent)
        self._note("failed", failed)
        self._count(sent)

    def _count(self, sent: Sequence[_Message]) -> None:
        self.messages += len(sent)
        self.events += sum(count_events(message.row) for message in sent)

    def _note(self, status: str, messages: Sequence[_Message]) -> list[Row]:
        if not messages:
            return []
        places = [{name: message.row[name] for name in _PLACE} for message in messages]
        body = {"letters": places, "status": status, "again": self._again}
        noted: list[Row] = self._control.request("POST", "/dead-letters/redrives", json=body)
        return noted
