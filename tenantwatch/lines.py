"""Lines of a file to event batches: each event to those of its kind."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from pydantic_core import from_json

from schemas.batch import EventBatch
from schemas.event import KINDS, Kind
from schemas.parse import parse

# Large enough for columns to pay, small enough that their objects die young.
LINES_PER_BATCH: Final = 30_000
_KIND: Final = re.compile(rb'"kind"\s*:\s*"(auth|access|request)"')
_NO_KIND: Final = "kind: none found; fix: send a JSON object with `kind` auth, access or request"
_BY_NAME: Final[dict[object, Kind]] = {kind: kind for kind in KINDS}
_BY_GLANCE: Final[dict[tuple[bytes, ...], Kind]] = {(kind.encode(),): kind for kind in KINDS}


class RejectedLine(NamedTuple):
    """A line, or an event of its array, that is no event.

    Parameters
    ----------
    line
        Its number, from 1.
    reason, detail
        As in a dead letter: a word to group by; which field, what was found, how to fix it.
    """

    line: int
    reason: str
    detail: str


def _parsed_kind(line: bytes) -> Kind | None:
    """Return the kind that a line names, where a glance does not tell.

    >>> _parsed_kind(b'{"attributes":{"kind":"access"},"kind":"auth"}'), _parsed_kind(b"[]")
    ('auth', None)
    """
    try:
        event = from_json(line)
    except ValueError:
        return None
    if isinstance(event, list):
        event = event[0] if event else None
    word = event.get("kind") if isinstance(event, dict) else None
    return _BY_NAME.get(word) if isinstance(word, str) else None


def read_lines(lines: Iterable[bytes], rejected: list[RejectedLine]) -> Iterator[EventBatch]:
    """Yield the events of newline-delimited JSON, in the order of the lines within each kind.

    Parameters
    ----------
    lines
        An event, or an array of events of one kind, on each.
    rejected
        Filled on the way with what is no event; complete, and in order, at the end.
    """
    numbered = iter(lines)
    first = 1
    while texts := list(map(bytes.strip, islice(numbered, LINES_PER_BATCH))):
        # All of them at each step: line by line this took a quarter of a backtest's time.
        kinds: list[Kind | None] = list(map(_BY_GLANCE.get, map(tuple, map(_KIND.findall, texts))))
        for i in [i for i, kind in enumerate(kinds) if kind is None and texts[i]]:
            kinds[i] = _parsed_kind(texts[i])
            if kinds[i] is None:
                rejected.append(RejectedLine(first + i, "invalid_event", _NO_KIND))
        for kind in KINDS:
            chosen = [i for i, found in enumerate(kinds) if found == kind]
            if chosen:
                parsed = parse(kind, [texts[i] for i in chosen])
                rejected += [
                    RejectedLine(first + chosen[bad.record], bad.reason, bad.detail)
                    for bad in parsed.rejections
                ]
                yield parsed.batch
        first += len(texts)
    rejected.sort()
