"""The part of JSON Schema that the generated event schemas use, checked without a dependency.

A keyword that this checker does not know is refused when the schema is loaded: it would otherwise be a rule
that nobody enforces.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Callable, NamedTuple

MAX_SHOWN = 60
MAX_PROBLEMS = 5
# Whose values an error may show. An error ends in logs, so it describes the value of any other field by its
# type: a wrong `user_id` may be a password typed into the wrong box.
SHOWN_FIELDS = frozenset(
    ("kind", "time", "outcome", "action", "auth_method", "http_method", "http_status", "record_count")
)

_ANNOTATIONS = frozenset(("$schema", "$id", "title", "description", "default", "x-data-classification"))
_KEYWORDS = frozenset(
    (
        *("type", "enum", "const", "anyOf", "minimum", "maximum", "minLength", "maxLength", "pattern"),
        *("format", "properties", "required", "additionalProperties", "maxProperties", "x-max-bytes"),
    )
)


class InvalidEvent(ValueError):
    """An event breaks the contract; the message says which field, what was found and how to fix it.

    Parameters
    ----------
    problems
        One line for each wrong field. They hold no values of fields that may be personal.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        more = len(self.problems) - MAX_PROBLEMS
        return " | ".join(self.problems[:MAX_PROBLEMS]) + (f" | and {more} more" if more > 0 else "")


class Problem(NamedTuple):
    """What is wrong with one value, and what to send instead."""

    path: tuple[str, ...]
    what: str
    value: object
    fix: str

    def __str__(self) -> str:
        name = ".".join(self.path) or "event"
        if self.value is _MISSING:
            return f"{name}: missing; fix: {self.fix}"
        return f"{name}: {self.what}, found {_found(self.path, self.value)}; fix: {self.fix}"


_MISSING = object()


def _found(path: tuple[str, ...], value: object) -> str:
    if path and path[0] in SHOWN_FIELDS and isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    if value is None:
        return "None"
    size = f" of length {len(value)}" if isinstance(value, (str, dict, list)) else ""
    return type(value).__name__ + size


def json_bytes(value: object) -> bytes:
    """Return compact JSON in UTF-8, the form that limits in bytes are about.

    Raises
    ------
    ValueError
        If the value holds what JSON in UTF-8 cannot: NaN, or half of a surrogate pair.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_number(value: object) -> bool:
    # JSON has no NaN and no infinity, though Python's encoder writes them.
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return _is_number(value) and (isinstance(value, int) or float.is_integer(value))  # type: ignore[arg-type]  # float


_TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": ("a whole number", _is_integer),
    "number": ("a number", _is_number),
    "boolean": ("True or False", lambda value: isinstance(value, bool)),
    "null": ("None", lambda value: value is None),
    "object": ("a dict with string keys", _is_object),
}


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def is_valid(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return is_valid


def _ipv6(value: str) -> None:
    if "%" in value:
        raise ValueError("a zone (fe80::1%eth0) means something on the reporting host only")
    ipaddress.IPv6Address(value)


def _day(value: str) -> None:
    # The schema's pattern beside this format has the rest: a zone, hours up to 23, …
    datetime.date(int(value[:4]), int(value[5:7]), int(value[8:10]))


_FORMATS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "ipv4": ("an address like 192.0.2.7", _parses(ipaddress.IPv4Address)),
    "ipv6": ("an address like 2001:db8::7", _parses(_ipv6)),
    "date-time": ("a day that exists", _parses(_day)),
}


class Schema:
    """One JSON Schema, ready to check values.

    Parameters
    ----------
    schema
        The parsed JSON Schema.

    Raises
    ------
    ValueError
        If the schema uses a keyword, type or format that is not supported here.

    Examples
    --------
    >>> [str(problem) for problem in Schema({"type": "string", "maxLength": 3}).problems("abcd")]
    ['event: longer than 3 characters, found str of length 4; fix: send at most 3 characters']
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        unknown = sorted(set(schema) - _KEYWORDS - _ANNOTATIONS)
        if unknown:
            raise ValueError(f"JSON Schema keywords {unknown} are not supported; teach them to {__name__}")
        self._schema = schema
        types = schema.get("type", [])
        self._types = [types] if isinstance(types, str) else list(types)
        self._format = schema.get("format")
        if not set(self._types) <= set(_TYPES) or self._format not in (None, *_FORMATS):
            raise ValueError(f"type {types!r} or format {self._format!r} is not supported by {__name__}")
        # Only words are compared: in Python, unlike in JSON, 1 equals True.
        self._words = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if self._words is not None and not all(isinstance(word, str) for word in self._words):
            raise ValueError(f"enum and const are supported by {__name__} for strings only")
        # In Python `$` would let a line break follow, and \d would take the digits of every script.
        self._pattern = re.compile(re.sub(r"\$$", r"\\Z", schema.get("pattern", "")), re.ASCII)
        self.properties = {name: Schema(part) for name, part in schema.get("properties", {}).items()}
        self._any_of = [Schema(part) for part in schema.get("anyOf", ())]
        more = schema.get("additionalProperties", True)
        self._additional = more if isinstance(more, bool) else Schema(more)
        self._wanted = (
            [_FORMATS[self._format][0]] if self._format else [_TYPES[name][0] for name in self._types]
        )

    def problems(self, value: object, path: tuple[str, ...] = ()) -> Iterator[Problem]:
        """Yield what is wrong with a value; nothing when it is valid.

        Parameters
        ----------
        value
            Of the Python types that JSON is parsed into.
        path
            Names that lead to the value.
        """
        if self._types and not any(_TYPES[name][1](value) for name in self._types):
            wanted = " or ".join(self._wanted)
            yield Problem(path, f"not {wanted}", value, f"send {wanted}")
            return
        if self._words is not None and value not in self._words:
            yield Problem(path, "not one of the known words", value, "send one of: " + ", ".join(self._words))
        if self._any_of:
            yield from self._check_any_of(value, path)
        if isinstance(value, str):
            yield from self._check_text(value, path)
        elif isinstance(value, dict):
            yield from self._check_object(value, path)
        elif _is_number(value):
            low, high = self._schema.get("minimum", -math.inf), self._schema.get("maximum", math.inf)
            if not low <= value <= high:
                yield Problem(path, "out of range", value, f"send a number from {low} to {high}")

    def _check_any_of(self, value: object, path: tuple[str, ...]) -> Iterator[Problem]:
        found = [list(schema.problems(value, path)) for schema in self._any_of]
        if all(found):
            real = [i for i, schema in enumerate(self._any_of) if schema._types != ["null"]]
            if len(real) == 1:  # "this, or null": what is wrong with this is what helps
                yield from found[real[0]]
            else:
                wanted = " or ".join(name for schema in self._any_of for name in schema._wanted)
                yield Problem(path, f"not {wanted}", value, f"send {wanted}")

    def _check_text(self, value: str, path: tuple[str, ...]) -> Iterator[Problem]:
        shortest, longest = self._schema.get("minLength", 0), self._schema.get("maxLength", math.inf)
        if len(value) < shortest:
            yield Problem(path, "too short", value, f"send at least {shortest} characters")
        elif len(value) > longest:
            yield Problem(
                path, f"longer than {longest} characters", value, f"send at most {longest} characters"
            )
        elif not self._pattern.search(value):
            yield Problem(path, "of a wrong form", value, f"send text that matches {self._schema['pattern']}")
        elif self._format and not _FORMATS[self._format][1](value):
            yield Problem(path, f"not {self._wanted[0]}", value, f"send {self._wanted[0]}")
        elif not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                yield Problem(
                    path, "half of a surrogate pair in it", value, "encode with errors='replace' first"
                )

    def _check_object(self, value: dict[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
        valid = True
        for name in self._schema.get("required", ()):
            if name not in value:
                valid = False
                yield Problem((*path, name), "", _MISSING, "add the field")
        most = self._schema.get("maxProperties", math.inf)
        if len(value) > most:
            yield Problem(path, f"more than {most} keys", value, f"send at most {most}")
        for name, part in value.items():
            schema = self.properties.get(name, self._additional)
            if schema is False:
                yield Problem((*path, name), "not allowed here", part, "remove it")
            elif isinstance(schema, Schema):
                for problem in schema.problems(part, (*path, name)):
                    valid = False
                    yield problem
        if valid and "x-max-bytes" in self._schema:
            yield from self._check_size(value, path)

    def _check_size(self, value: dict[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
        most = self._schema["x-max-bytes"]
        try:
            size = len(json_bytes(value))
        except ValueError as error:
            yield Problem(path, f"not possible in JSON ({type(error).__name__})", value, "send plain text")
        else:
            if size > most:
                yield Problem(
                    path, f"{size} bytes of JSON, at most {most} are kept", value, "send less in it"
                )
