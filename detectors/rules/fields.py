"""The fields that a rule may name: the contract's, and attributes."""

from functools import lru_cache
from typing import Final

from detectors.rules.view import ATTRIBUTE
from detectors.wording import near
from schemas.event import KINDS, Kind
from schemas.field_rules import FieldRule, rules_of

# A batch keeps these in other forms; a rule says the kind elsewhere, and has no use for a time.
_ELSEWHERE: Final = {
    "kind": "the kind is `logsource.category`",
    "time": "events are not selected by time; a `correlation` has a `timespan`",
    "attributes": "name one of them: `attributes.country`",
}


@lru_cache
def fields_of(kind: Kind) -> dict[str, FieldRule]:
    """Return the fields of a kind of events that a rule may name, and what each may hold."""
    return {rule.name: rule for rule in rules_of(kind) if rule.name not in _ELSEWHERE}


def field_fault(field: str, kind: Kind) -> str | None:
    """Return what is wrong with the name of a field, None: nothing.

    >>> field_fault("user", "auth")
    'auth events have no field `user`; did you mean `user_id`?'
    >>> field_fault("http_status", "auth")
    '`http_status` is a field of request events, and the rule is about auth events'
    """
    known = fields_of(kind)
    if field in known or (field.startswith(ATTRIBUTE) and field != ATTRIBUTE):
        return None
    if field in _ELSEWHERE:
        return f"`{field}` cannot be used; {_ELSEWHERE[field]}"
    others = [other for other in KINDS if field in fields_of(other)]
    if others:
        return f"`{field}` is a field of {' and '.join(others)} events, and the rule is about {kind} events"
    meant = near(field, known)
    fix = f"did you mean `{meant}`?" if meant else f"if it is an attribute, write `{ATTRIBUTE}{field}`"
    return f"{kind} events have no field `{field}`; {fix}"
