"""The contract's rules, one for each field, as the readers that are quicker than pydantic need them.

They come from the models' own JSON Schema, so that the contract keeps its one source. A keyword that is not
known here is an error at import: a new constraint cannot be overlooked.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from schemas.batch import FIELDS
from schemas.event import MODELS, RFC3339, Kind

_ABOUT: Final = {"title", "description", "default", "format", "maxProperties", "x-max-bytes", "anyOf"}
_BOUNDS: Final = {"minLength": "min_length", "maxLength": "max_length", "minimum": "ge", "maximum": "le"}
ValueType = Literal["string", "integer", "number", "object"]


@dataclass(frozen=True)
class FieldRule:
    """What a field may hold.

    Parameters
    ----------
    required
        Whether an event must have the field.
    nullable
        Whether it may be null.
    choices
        The only texts allowed; empty: any.
    bounds
        ``min_length``, ``max_length`` (characters), ``ge``, ``le``.
    pattern
        A regular expression for the whole text.
    address
        Whether it is an IP address, kept in canonical form.
    """

    name: str
    type: ValueType
    required: bool
    nullable: bool
    choices: tuple[str, ...] = ()
    bounds: tuple[tuple[str, Any], ...] = ()
    pattern: str | None = None
    address: bool = False

    @classmethod
    def of(cls, name: str, schema: dict[str, Any], required: bool) -> "FieldRule":
        """Return the rule of a property of a model's JSON Schema.

        Raises
        ------
        TypeError
            If the schema says something that has no place here.
        """
        options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
        core = {**schema, **options[0]} if len(options) == 1 else schema
        nullable = {"type": "null"} in schema.get("anyOf", [])
        if "const" in core or "enum" in core:
            known, choices = {"const", "enum", "type"}, core.get("enum", [core.get("const")])
        elif core.get("type") == "object":
            known, choices = {"type", "additionalProperties"}, []
        else:
            known, choices = {"type", "pattern", *_BOUNDS}, []
        if unknown := core.keys() - known - _ABOUT:
            raise TypeError(f"{name}: the quick readers do not know {sorted(unknown)}; teach them")
        return cls(
            name,
            core.get("type", "string"),
            required,
            nullable,
            tuple(choices),
            tuple((_BOUNDS[word], core[word]) for word in _BOUNDS if word in core),
            core.get("pattern"),
            any(option.get("format") == "ipv4" for option in core.get("anyOf", [])),
        )


def rules_of(kind: Kind) -> list[FieldRule]:
    """Return the rules of ``("time", *FIELDS[kind], "kind")``, in that order."""
    schema = MODELS[kind].model_json_schema()
    return [
        FieldRule.of(name, schema["properties"][name], name in schema["required"])
        for name in ("time", *FIELDS[kind], "kind")
    ]


@lru_cache(maxsize=1 << 16)
def matches(pattern: str, text: str | None) -> bool:
    """Return whether a text matches a pattern, or there is none.

    Cached because the values of these columns repeat; a regular expression each would cost more than reading
    the event.
    """
    return text is None or re.compile(pattern).fullmatch(text) is not None


def _split_time_pattern() -> tuple[str, str]:
    # A second repeats within a chunk and a fraction between chunks, a whole time hardly ever.
    date, fraction = RFC3339.removeprefix("^").removesuffix("$").split(r"(\.", 1)
    return date, r"(\." + fraction


_SECOND, _FRACTION = _split_time_pattern()
_SECOND_LENGTH: Final = len("2026-01-05T08:00:00")


def are_times(texts: Any) -> bool:
    """Return whether all texts are in the form of a time.

    >>> are_times(["2026-01-05T08:00:00Z"]), are_times(["2026-01-05"])
    (True, False)
    """
    seconds = {text[:_SECOND_LENGTH] for text in texts}
    fractions = {text[_SECOND_LENGTH:] for text in texts}
    return all(matches(_SECOND, s) for s in seconds) and all(matches(_FRACTION, f) for f in fractions)
