"""Validation errors that say which field, what was found and how to fix it."""

import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MAX_SHOWN: Final = 60
MAX_ERRORS: Final = 5

_FIXES: Final[dict[str, str]] = {
    "missing": "add the field",
    "string_type": "send a JSON string",
    "string_too_short": "send at least one character, or null where the field allows it",
    "string_too_long": "shorten it, or put the long form under `attributes`",
    "literal_error": "send one of the listed words",
    "dict_type": "send a JSON object",
    "list_type": "send a JSON array",
    "model_type": "send a JSON object with the event's fields",
    "model_attributes_type": "send a JSON object with the event's fields",
    "int_parsing": "send a whole number",
    "int_parsing_size": "send a smaller number",
    "int_type": "send a whole number",
    "int_from_float": "send a whole number",
    "float_type": "send a number",
    "float_parsing": "send a number",
    "finite_number": "send a finite number, or null where the field allows it",
    "greater_than_equal": "send a number within the limits",
    "less_than_equal": "send a number within the limits",
    "bool_parsing": "send true or false",
    "extra_forbidden": "remove it, or correct its name",
    "json_invalid": "send JSON in UTF-8: one object, or an array of objects",
}
_UNION_MEMBER: Final = re.compile(r"(constrained-)?(int|float|bool|str)|(dict|list)\[.*\]")
_OTHERWISE: Final = "send what the contract allows for this field"
_FIELD_FIXES: Final[dict[str, str]] = {
    "kind": "send `auth`, `access` and `request` events each to the topic of their kind",
    "time": "send RFC 3339 with a zone between 1970 and 2199, like 2026-01-31T09:30:00.123Z",
    "tenant_id": "use 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    "token_tenant_id": "use 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    "resource_tenant_id": "use 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    "source_ip": "send an address like 192.0.2.7 or 2001:db8::7, or null; names go under `attributes`",
    "action": "use lower snake_case, at most 64 characters",
    "auth_method": "use lower snake_case, at most 64 characters",
    "http_method": "send a method like GET",
    "attributes": "send an object of at most 32 strings, numbers, booleans or nulls and at most 8 KiB",
}


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _found(value: Any) -> str:
    return "null" if value is None else _short(repr(value))


# Of what may name a person only its kind is told: errors are kept, logged and shown.
_HIDDEN: Final = frozenset({"user_id", "attributes"})


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"a string of {len(value):,} characters"
    if isinstance(value, dict | list):
        what, parts = ("an object", "keys") if isinstance(value, dict) else ("an array", "elements")
        return f"{what} of {len(value):,} {parts if len(value) != 1 else parts[:-1]}"
    return "true or false" if isinstance(value, bool) else "null" if value is None else "a number"


def _path(loc: Sequence[int | str]) -> str:
    # pydantic also names what it tried: each scalar type of an attribute, each member of a union. A
    # person wants only the field.
    if loc[:1] == ("attributes",):
        parts = list(loc[:2])
    else:
        parts = [part for part in loc if isinstance(part, int) or not _UNION_MEMBER.fullmatch(part)]
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else "." * bool(path) + _short(part)
    return path


def _describe(error: ErrorDetails, name: str) -> str:
    loc, kind = error["loc"], error["type"]
    if kind == "missing":
        return f"{name}: missing; fix: add the field"
    if kind == "json_invalid":
        return f"{error['msg']}; fix: {_FIXES[kind]}"
    message = error["msg"].removeprefix("Value error, ")
    if len(loc) > 1 and loc[0] == "attributes":
        message = "not a string, number, boolean or null"
    elif kind == "string_pattern_mismatch":
        message = "not of the form that the contract asks for"  # a long pattern explains nothing
    field = next((part for part in reversed(loc) if part in _FIELD_FIXES), None)
    wrong_type = field != "attributes" and kind in ("string_type", "dict_type", "list_type")
    fix = _FIXES.get(kind, _OTHERWISE) if wrong_type or field is None else _FIELD_FIXES[str(field)]
    found = _kind(error["input"]) if _HIDDEN.intersection(loc) else _found(error["input"])
    return f"{name}: {message[0].lower()}{message[1:]}, found {found}; fix: {fix}"


def describe(error: ValidationError, prefix: str = "") -> str:
    """Return one line for a person: each wrong field, what was found, how to fix it.

    Parameters
    ----------
    error
        What pydantic raised.
    prefix
        Where the value stands, e.g. ``[17].`` for the eighteenth event of an array.

    >>> from schemas.event import AuthEvent
    >>> try:
    ...     AuthEvent.model_validate({"kind": "auth", "event_id": 7})
    ... except ValidationError as error:
    ...     print(describe(error).split(" | ")[0])
    event_id: input should be a valid string, found 7; fix: send a JSON string
    """
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False):
        name = (prefix + _path(detail["loc"])).rstrip(".") or "event"
        lines.setdefault(
            name, _describe(detail, name)
        )  # one line a field, though a union fails in several ways
    # Where one member of a union got as far as `retention_days.auth`, the others' complaint misleads.
    shown = [line for name, line in lines.items() if not any(other.startswith(f"{name}.") for other in lines)]
    more = len(shown) - MAX_ERRORS
    return " | ".join(shown[:MAX_ERRORS]) + (f" | and {more} more" if more > 0 else "")
