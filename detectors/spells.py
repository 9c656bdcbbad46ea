"""Spells: a key's events since its buckets were last empty. Between spells a key is as if never seen."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

# An episode starts with what led up to it; more of it than this adds nothing that a person would read.
MAX_RECENT: Final = 32
# So many values of a key are told apart exactly; then every other value counts as new. Exact, because
# five users in a 64-bit bitmap collide in one case of seven; bounded, because an attacker who invents
# names must not fill the memory, and a key with 64 of them is in alarm anyway.
MAX_KNOWN: Final = 64


# So far apart are neighbours: whoever counts through ids skips one now and then.
STEP: Final = 2
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL | re.ASCII)


def neighbours(value: str) -> set[str]:
    """Return the values that end in a number close to that of the given one; none where it has no number.

    >>> sorted(neighbours("job-98")), neighbours("job")
    (['job-100', 'job-96', 'job-97', 'job-99'], set())
    """
    numbered = _NUMBERED.fullmatch(value)
    if numbered is None:
        return set()
    stem, digits = numbered.groups()
    number, width = int(digits), len(digits)
    near = [n for n in range(number - STEP, number + STEP + 1) if n >= 0 and n != number]
    # Numbers may be padded with zeros or not.
    return {f"{stem}{n:0{width}}" for n in near} | {f"{stem}{n}" for n in near}


# Time, event id, value and mark of one event.
Recent = tuple[int, str, str | None, bool]
# Snapshots hold these bytes: a change of what is in them is one of every state's layout that has buckets.
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(
    tuple[tuple[Recent, ...], tuple[str, ...] | None, tuple[str, ...] | None]
)


@dataclass(slots=True)
class Spell:
    """What is remembered of a key while one of its buckets holds something.

    Most spells are one event of one value, of a person who mistyped, and there are many: as objects they take
    some 370 bytes, as `packed` a hundred, and unpacking costs a microsecond where somebody fails again.

    Parameters
    ----------
    recent
        The latest events, at most `MAX_RECENT`; none while an episode is open, which keeps its own.
    known
        The values met, at most `MAX_KNOWN`; None where nobody asks for new ones.
    more
        Those of the second kind, apart: else which of the two fills the room would depend on the batch.
    """

    recent: tuple[Recent, ...] = ()
    known: tuple[str, ...] | None = None
    more: tuple[str, ...] | None = None

    def packed(self) -> bytes:
        """Return it as bytes, to be kept."""
        return _ENCODER.encode((self.recent, self.known, self.more))

    @classmethod
    def unpacked(cls, kept: bytes | None) -> "Spell":
        """Return what was kept; a new one where nothing was.

        Raises
        ------
        msgspec.MsgspecError
            If the bytes are no spell.

        >>> Spell.unpacked(Spell(known=("ana",)).packed())
        Spell(recent=(), known=('ana',), more=None)
        """
        return cls() if kept is None else cls(*_DECODER.decode(kept))

    def news(self, values: Sequence[str | None], near: list[bool] | None = None) -> list[bool]:
        """Return which values the spell had not met before; afterwards it has.

        Parameters
        ----------
        values
            In order.
        near
            Gets for each value whether it is new and a neighbour of one met before (`neighbours`).

        >>> beside: list[bool] = []
        >>> Spell().news(["job-7", None, "job-9", "job-7"], beside), beside
        ([True, False, True, False], [False, False, True, False])
        """
        flags, self.known = self._news(values, self.known or (), near)
        return flags

    def news_of_more(self, values: Sequence[str | None]) -> list[bool]:
        """Return the same of values of the second kind.

        >>> Spell().news_of_more(["jobs:read", "jobs:read"])
        [True, False]
        """
        flags, self.more = self._news(values, self.more or (), None)
        return flags

    @staticmethod
    def _news(
        values: Sequence[str | None], known: tuple[str, ...], near: list[bool] | None
    ) -> tuple[list[bool], tuple[str, ...]]:
        flags = [False] * len(values)
        if near is not None:
            near.extend(flags)
        for i, value in enumerate(values):
            if value is None or value in known:
                continue
            flags[i] = True
            if near is not None and known:
                near[i - len(values)] = not neighbours(value).isdisjoint(known)
            if len(known) < MAX_KNOWN:
                known = (*known, value)
        return flags, known

    def remember(self, events: Iterable[Recent]) -> None:
        """Add events, and forget the oldest beyond the bound."""
        self.recent = (*self.recent, *events)[-MAX_RECENT:]
