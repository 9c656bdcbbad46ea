"""Validation errors that say which field, what was found and how to fix it."""

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
    "literal_error": "send one of the listed words",
    "dict_type": "send a JSON object",
    "list_type": "send a JSON array",
    "model_type": "send a JSON object with the event's fields",
    "model_attributes_type": "send a JSON object with the event's fields",
    "int_parsing": "send a whole number",
    "int_type": "send a whole number",
    "int_from_float": "send a whole number",
    "float_type": "send a number",
    "float_parsing": "send a number",
    "bool_parsing": "send true or false",
    "extra_forbidden": "remove it, or move it under `attributes`",
    "json_invalid": "send JSON in UTF-8: one object, or an array of objects",
}
_FIELD_FIXES: Final[dict[str, str]] = {
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


def _found(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _path(loc: Sequence[int | str]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _describe(error: ErrorDetails, prefix: str) -> str:
    loc = error["loc"]
    # Inside `attributes` pydantic names the union's members; a person wants only the key.
    if "attributes" in loc:
        loc = loc[: loc.index("attributes") + 2]
    name = (prefix + _path(loc)).rstrip(".") or "event"
    message = error["msg"].removeprefix("Value error, ")
    if len(loc) > 1 and loc[0] == "attributes":
        message = "not a string, number, boolean or null"
    if error["type"] == "missing":
        return f"{name}: missing; fix: add the field"
    if error["type"] == "json_invalid":
        return f"{message}; fix: {_FIXES['json_invalid']}"
    field = next((part for part in reversed(loc) if part in _FIELD_FIXES), None)
    wrong_type = field != "attributes" and error["type"] in ("string_type", "dict_type", "list_type")
    fix = _FIXES.get(error["type"]) if wrong_type or field is None else _FIELD_FIXES[str(field)]
    described = f"{name}: {message[0].lower()}{message[1:]}, found {_found(error['input'])}"
    return f"{described}; fix: {fix}" if fix else described


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
    lines: list[str] = []
    for detail in error.errors(include_url=False, include_context=False):
        line = _describe(detail, prefix)
        if line not in lines:
            lines.append(line)
    more = len(lines) - MAX_ERRORS
    return " | ".join(lines[:MAX_ERRORS]) + (f" | and {more} more" if more > 0 else "")
