"""The quick way to read one message: whatever it accepts, pydantic would have accepted unchanged.

msgspec reads JSON into structs several times as fast as pydantic reads it into models. The structs are made
from the models' own JSON Schema, so the contract keeps its one source, and they are stricter than it:
unknown fields, numbers written as text, whatever is unusual in any way is refused here and left to pydantic,
which alone decides and explains. A test compares the two on random events.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic_core import to_json

from schemas.event import MAX_EVENTS_PER_MESSAGE, MODELS, Kind, check_attributes, ip_address
from schemas.field_rules import FieldRule, are_times, matches, rules_of

Unusual = (msgspec.MsgspecError, ValueError)

_Scalars = dict[str, str | int | float | bool | None]
_TYPES: Final[dict[str, Any]] = {"string": str, "integer": int, "number": float, "object": _Scalars}


def _type_of(rule: FieldRule) -> Any:
    kind = Literal[rule.choices] if rule.choices else _TYPES[rule.type]
    if rule.bounds:
        kind = Annotated[kind, msgspec.Meta(**dict(rule.bounds))]
    return kind | None if rule.nullable else kind


def _attributes_text(value: _Scalars | str | None) -> str | None:
    if isinstance(value, dict):
        return to_json(check_attributes(value)).decode() if value else None
    return value  # pydantic has read the event


def _accept(rule: FieldRule, column: Sequence[Any]) -> Sequence[Any]:
    """Return the column as pydantic would have made it.

    Raises
    ------
    ValueError
        If pydantic has to look at it.
    """
    if rule.type == "object":
        return [_attributes_text(value) for value in column] if any(column) else column
    if rule.name == "time":
        if not are_times(column):
            raise ValueError("time")
    elif rule.pattern is not None and not all(matches(rule.pattern, text) for text in set(column)):
        raise ValueError(rule.name)
    elif rule.address:
        canonical = {text: text and ip_address(text) for text in set(column)}
        if any(text != address for text, address in canonical.items()):
            return [canonical[text] for text in column]
    return column


class QuickReader:
    """Reads events of one kind into rows of ``("time", *FIELDS[kind], "kind")``.

    Attributes
    ----------
    one, many
        Decode a message that is an event, or an array of events, into structs; raise `Unusual`.
    """

    def __init__(self, kind: Kind) -> None:
        rules = rules_of(kind)
        self._checked = [
            (i, rule)
            for i, rule in enumerate(rules)
            if rule.pattern is not None or rule.address or rule.type == "object"
        ]
        struct = msgspec.defstruct(
            f"{kind}_event",
            [(r.name, _type_of(r)) if r.required else (r.name, _type_of(r), None) for r in rules],
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        self.one: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(struct).decode
        many = Annotated[list[struct], msgspec.Meta(min_length=1, max_length=MAX_EVENTS_PER_MESSAGE)]  # type: ignore[valid-type]
        self.many: Callable[[bytes], list[msgspec.Struct]] = msgspec.json.Decoder(many).decode

    def check(self, columns: list[Sequence[Any]]) -> None:
        """Check what only whole columns are checked for, and put values into the form of the batch.

        Parameters
        ----------
        columns
            Of the rows; changed.

        Raises
        ------
        ValueError
            If pydantic has to look at one of them (`Unusual`).
        """
        for i, rule in self._checked:
            columns[i] = _accept(rule, columns[i])


QUICK: Final[dict[Kind, QuickReader]] = {kind: QuickReader(kind) for kind in MODELS}
