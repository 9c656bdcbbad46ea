"""Whether a new JSON Schema still accepts all that an old one accepted."""

from collections.abc import Callable
from typing import Final

from schema_examples import Json

# The limits, and which side of the old one a new one may lie on.
_LIMITS: Final[dict[str, Callable[[float, float], bool]]] = {
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "x-max-bytes"),
        lambda old, new: new >= old,
    ),
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"),
        lambda old, new: new <= old,
    ),
}
_NESTED: Final = ("additionalProperties", "items", "propertyNames")
_COMPARED: Final = frozenset({"type", "enum", "properties", "required", *_LIMITS, *_NESTED})


def narrowings(old: Json, new: Json, where: str) -> list[str]:
    """Return what `new` refuses that `old` accepted: one sentence for each change, none if additive.

    A rule whose effect cannot be told (another pattern, another format) counts as narrower.

    Parameters
    ----------
    old, new
        Schemas in the form of `schemas.generate.rules`.
    where
        What to call the value, e.g. ``auth-event``.

    >>> narrowings({"type": "string", "maxLength": 64}, {"type": "string", "maxLength": 32}, "reason")
    ['reason: maxLength 64 became 32']
    >>> narrowings({"type": "integer"}, {"type": ["number", "null"]}, "score")
    []
    """
    found: list[str] = []
    new_alternatives = _alternatives(new)
    for alternative in _alternatives(old):
        attempts = [_compare(alternative, candidate, where) for candidate in new_alternatives]
        if all(attempts):
            alike = [
                attempt
                for attempt, candidate in zip(attempts, new_alternatives, strict=True)
                if candidate.get("type") == alternative.get("type")
            ]
            lost = f"{where}: {alternative.get('type', 'a value')} is not accepted any more"
            fewest: list[str] = min(alike, key=len, default=[lost])
            found += fewest
    return list(dict.fromkeys(found))


def _alternatives(schema: Json) -> list[Json]:
    """Return schemas without ``anyOf``, ``const`` and lists of types, that together accept the same."""
    shared = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "const")}
    if "const" in schema:
        shared["enum"] = [schema["const"]]
    if isinstance(shared.get("type"), list):
        return [flat for name in shared["type"] for flat in _alternatives({**schema, "type": name})]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if not choices:
        return [shared]
    return [flat for choice in choices for flat in _alternatives({**shared, **choice})]


def _compare(old: Json, new: Json, where: str) -> list[str]:
    found: list[str] = []
    if "type" in new and new["type"] not in (old.get("type"), {"integer": "number"}.get(old.get("type", ""))):
        return [f"{where}: {old.get('type', 'any type')} is not accepted any more, only {new['type']}"]
    if "enum" in new:
        lost = [word for word in old.get("enum", ["any value"]) if word not in new["enum"]]
        found += [f"{where}: {word!r} is not accepted any more" for word in lost]
    for name, is_wide_enough in _LIMITS.items():
        if name in new and (name not in old or not is_wide_enough(old[name], new[name])):
            found.append(f"{where}: {name} {old.get(name, 'without limit')} became {new[name]}")
    for name in sorted(new.keys() - _COMPARED):
        if new[name] != old.get(name):
            found.append(f"{where}: {name} {old.get(name, 'without rule')!r} became {new[name]!r}")
    return found + _compare_fields(old, new, where) + _compare_nested(old, new, where)


def _compare_fields(old: Json, new: Json, where: str) -> list[str]:
    found: list[str] = []
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name, field in old_fields.items():
        if name in new_fields:
            found += narrowings(field, new_fields[name], f"{where}.{name}")
        else:
            found.append(f"{where}.{name}: the field was removed")
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        became = "became required" if name in old_fields else "is new and required"
        found.append(f"{where}.{name}: the field {became}")
    return found


def _compare_nested(old: Json, new: Json, where: str) -> list[str]:
    found: list[str] = []
    for name in _NESTED:
        before, after = old.get(name, True), new.get(name, True)
        if after is True or before is False:
            continue
        if after is False:
            found.append(f"{where}: {name} are not accepted any more")
        else:
            found += narrowings({} if before is True else before, after, f"{where}[{name}]")
    return found
