"""Which events of a rule belong together, and whom their alert is about.

A group's key is (tenant, rule and fields, values): the second part is the rule's key and the names of the
fields, as a JSON array; the third the value of the one field, or a JSON array of the values of several.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, cast, get_args

import numpy as np

from detectors.columns import Hashed, named, values_at
from detectors.keys import Key, Part
from detectors.rules.compiled import Rule
from detectors.rules.view import View
from schemas.alert import Entity, EntityType
from schemas.batch import Bools, Int64s
from schemas.event import Kind

# Of an alert without a group-by: the first that the event names.
ACTORS: Final[dict[Kind, tuple[str, ...]]] = {
    "auth": ("user_id", "source_ip", "tenant_id"),
    "access": ("user_id", "source_ip", "tenant_id"),
    "request": ("user_id", "api_key_id", "source_ip", "tenant_id"),
}
_ENTITY_TYPES: Final = frozenset(get_args(EntityType))


def grouped(view: View, rule: Rule) -> Bools:
    """Return ``(n,)`` which rows have all that their rule groups by and counts: the others are no one's."""
    fields = (
        rule.group_by if rule.window is None or not rule.window.field else (*rule.group_by, rule.window.field)
    )
    found = np.ones(len(view.rows), np.bool_)
    for field in fields:
        found &= named(view.column(field))
    return found


def parts_of(view: View, rule: Rule, at: Int64s) -> tuple[Part, ...]:
    """Return ``(m,)`` columns of the keys of the groups that rows belong to.

    Parameters
    ----------
    at
        ``(m,)`` positions of rows that are `grouped`.
    """
    tenants = Hashed(values_at(view.column("tenant_id"), at))
    if rule.window is None:
        who = _actors(view, rule.kind, at)
        words = {field: _word(rule, (field,)) for field in ACTORS[rule.kind]}
        return tenants, Hashed([words[field] for field, _ in who]), Hashed([value for _, value in who])
    fields = rule.group_by or ("tenant_id",)
    columns = [texts_at(view, field, at) for field in fields]
    if len(columns) == 1:
        return tenants, _word(rule, fields), Hashed(columns[0])
    return tenants, _word(rule, fields), Hashed([json.dumps(values) for values in zip(*columns, strict=True)])


def _word(rule: Rule, fields: Sequence[str]) -> str:
    return json.dumps([rule.headline.key, *fields])


def _actors(view: View, kind: Kind, at: Int64s) -> list[tuple[str, str]]:
    """Return the field that names who acted in each row, and its value."""
    rows = zip(*(values_at(view.column(field), at) for field in ACTORS[kind]), strict=True)
    return [
        next((field, value) for field, value in zip(ACTORS[kind], row, strict=True) if value is not None)
        for row in rows
    ]


def texts_at(view: View, field: str, at: Int64s) -> list[str]:
    """Return ``(m,)`` values of a field as texts."""
    return [value if isinstance(value, str) else str(value) for value in values_at(view.column(field), at)]


def values_of(key: Key) -> dict[str, str]:
    """Return what all events of a group have in common: field to value.

    >>> values_of(("tenant-a", '["0123456789abcdef", "user_id", "source_ip"]', '["ana", "192.0.2.7"]'))
    {'user_id': 'ana', 'source_ip': '192.0.2.7'}
    """
    fields: list[str] = json.loads(key[1])[1:]
    values: list[Any] = [key[2]] if len(fields) == 1 else json.loads(key[2])
    return dict(zip(fields, values, strict=True))


def rule_of(key: Key) -> str:
    """Return a group's rule as the ids of its alerts have it: each group has alerts of its own."""
    return " ".join(key[1:])


def entity_of(key: Key) -> Entity:
    """Return whom the alert of a group is about: the first field that names somebody, else the tenant.

    >>> entity_of(("tenant-a", '["0123456789abcdef", "session_id", "user_id"]', '["s-1", "ana"]'))
    Entity(type='user_id', value='ana')
    """
    common = values_of(key) | {"tenant_id": key[0]}
    entity_type = next(field for field in common if field in _ENTITY_TYPES)
    return Entity(type=cast(EntityType, entity_type), value=common[entity_type])
