"""The quick way to read events: whatever it accepts, pydantic would have accepted unchanged.

msgspec reads JSON into structs several times as fast as pydantic reads it into models. The structs are made
from the models' own JSON Schema, so the contract keeps its one source, and they are stricter than it:
unknown fields, numbers written as text, whatever is unusual in any way is refused here and left to pydantic,
which alone decides and explains. A test compares the two on random events.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic_core import to_json

from schemas.batch import FIELDS
from schemas.event import MAX_EVENTS_PER_MESSAGE, MODELS, RFC3339, Kind, check_attributes, ip_address

Unusual = (msgspec.MsgspecError, ValueError)

_ABOUT: Final = {"title", "description", "default", "format", "maxProperties", "x-max-bytes", "anyOf"}
_BOUNDS: Final = {"minLength": "min_length", "maxLength": "max_length", "minimum": "ge", "maximum": "le"}
_TYPES: Final[dict[str, Any]] = {"string": str, "integer": int, "number": float}
_Scalars = dict[str, str | int | float | bool | None]


@lru_cache(maxsize=1 << 16)
def _matches(pattern: str, text: str | None) -> bool:
    # Cached because the values of these columns repeat; a regular expression each would cost more than
    # reading the event.
    return text is None or re.compile(pattern).fullmatch(text) is not None


def _split_time_pattern() -> tuple[str, str]:
    # A second repeats within a chunk and a fraction between chunks, a whole time hardly ever.
    date, fraction = RFC3339.removeprefix("^").removesuffix("$").split(r"(\.", 1)
    return date, r"(\." + fraction


_SECOND, _FRACTION = _split_time_pattern()
_SECOND_LENGTH: Final = len("2026-01-05T08:00:00")


def _attributes_text(value: _Scalars | str | None) -> str | None:
    if isinstance(value, dict):
        return to_json(check_attributes(value)).decode() if value else None
    return value  # pydantic has read the event


class _Field:
    """One property of a model's JSON Schema, as msgspec and as a check of whole columns."""

    def __init__(self, name: str, schema: dict[str, Any], required: bool) -> None:
        self.name = name
        self.required = required
        options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
        core = {**schema, **options[0]} if len(options) == 1 else schema
        self.address = any(option.get("format") == "ipv4" for option in core.get("anyOf", []))
        self.pattern: str | None = core.get("pattern")
        self.type = self._type(core)
        if {"type": "null"} in schema.get("anyOf", []):
            self.type = self.type | None

    @property
    def checked(self) -> bool:
        """Whether `accept` does anything."""
        return self.pattern is not None or self.address or self.type == _Scalars | None

    def _type(self, schema: dict[str, Any]) -> Any:
        if "const" in schema or "enum" in schema:
            self._refuse_unknown(schema, {"const", "enum", "type"})
            return Literal[tuple(schema.get("enum", [schema.get("const")]))]
        if schema.get("type") == "object":
            self._refuse_unknown(schema, {"type", "additionalProperties"})
            return _Scalars
        self._refuse_unknown(schema, {"type", "pattern", *_BOUNDS})
        bounds = {_BOUNDS[word]: schema[word] for word in _BOUNDS if word in schema}
        kind = _TYPES[schema.get("type", "string")]
        return Annotated[kind, msgspec.Meta(**bounds)] if bounds else kind

    def _refuse_unknown(self, schema: dict[str, Any], known: set[str]) -> None:
        if unknown := schema.keys() - known - _ABOUT:
            raise TypeError(f"{self.name}: the quick reader does not know {sorted(unknown)}; teach it")

    def accept(self, column: Sequence[Any]) -> Sequence[Any]:
        """Return the column as pydantic would have made it.

        Raises
        ------
        ValueError
            If pydantic has to look at it.
        """
        if self.type == _Scalars | None:
            return [_attributes_text(value) for value in column] if any(column) else column
        if self.name == "time":
            seconds = {text[:_SECOND_LENGTH] for text in column}
            fractions = {text[_SECOND_LENGTH:] for text in column}
            whole = all(_matches(_SECOND, s) for s in seconds) and all(
                _matches(_FRACTION, f) for f in fractions
            )
            if not whole:
                raise ValueError("time")
        elif self.pattern is not None and not all(_matches(self.pattern, text) for text in set(column)):
            raise ValueError(self.name)
        elif self.address:
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
        schema = MODELS[kind].model_json_schema()
        names = ("time", *FIELDS[kind], "kind")
        fields = [_Field(name, schema["properties"][name], name in schema["required"]) for name in names]
        self._checks: list[tuple[int, Callable[[Sequence[Any]], Sequence[Any]]]] = [
            (i, field.accept) for i, field in enumerate(fields) if field.checked
        ]
        struct = msgspec.defstruct(
            f"{kind}_event",
            [(f.name, f.type) if f.required else (f.name, f.type, None) for f in fields],
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
        for i, accept in self._checks:
            columns[i] = accept(columns[i])


QUICK: Final[dict[Kind, QuickReader]] = {kind: QuickReader(kind) for kind in MODELS}
