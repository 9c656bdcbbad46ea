"""From a Sigma detection, as pySigma reads it, to a predicate."""

import re
from collections.abc import Sequence
from typing import Any, Final

from sigma.conditions import (
    ConditionIdentifier,
    ConditionNOT,
    ConditionOR,
    ConditionSelector,
)
from sigma.exceptions import SigmaError
from sigma.modifiers import reverse_modifier_mapping
from sigma.rule.detection import SigmaDetection, SigmaDetectionItem, SigmaDetections
from sigma.types import (
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaType,
    SpecialChars,
)

from detectors.rules.faults import RuleError
from detectors.rules.fields import field_fault, fields_of
from detectors.rules.predicates import (
    AllOf,
    Among,
    AnyOf,
    Compared,
    Is,
    Matches,
    Missing,
    Not,
    Predicate,
    Within,
)
from detectors.wording import advice
from schemas.event import Kind, ip_address
from schemas.field_rules import FieldRule

# Far more than a person can read, and far less than Python's own limit for what calls itself.
MAX_DEPTH: Final = 32
_WILDCARDS: Final[dict[Any, str]] = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}


def predicate_of(detections: SigmaDetections, kind: Kind, stored: bool = False) -> Predicate:
    """Return what a rule's detection asks of an event.

    Parameters
    ----------
    stored
        As `detectors.rules.ruleset.compiled`.

    Raises
    ------
    RuleError
        It asks for what events of the kind do not have, or for what is not supported.
    """
    reader = _Reader(detections, kind, stored)
    try:
        tree = detections.parsed_condition[0].parse(postprocess=False)
        predicate = reader.condition(tree, 0)
    except SigmaError as error:
        raise RuleError([f"detection.condition: {error}"]) from error
    unused = [name for name in detections.detections if name not in reader.used]
    reader.faults += [
        f"detection.{name}: the condition does not use it; fix: use it, or take it out" for name in unused
    ]
    if reader.faults:
        raise RuleError(dict.fromkeys(reader.faults))
    return predicate


class _Reader:
    """Reads one detection; collects everything that is wrong with it."""

    def __init__(self, detections: SigmaDetections, kind: Kind, stored: bool) -> None:
        self._detections = detections
        self._kind = kind
        self._stored = stored
        self.used: set[str] = set()
        self.faults: list[str] = []

    def condition(self, node: Any, depth: int) -> Predicate:
        if depth > MAX_DEPTH:
            raise RuleError([f"detection.condition: nested more than {MAX_DEPTH} deep; fix: make it simpler"])
        if isinstance(node, ConditionIdentifier):
            return self._selection(node.identifier)
        if isinstance(node, ConditionSelector):
            names = [found.identifier for found in node.resolve_referenced_detections(self._detections)]
            if not names:
                self.faults.append(f"detection.condition: nothing is called `{node.pattern}`")
            return _joined(node.cond_class, [self._selection(name) for name in names])
        if isinstance(node, ConditionNOT):
            return Not(self.condition(node.args[0], depth + 1))
        return _joined(type(node), [self.condition(part, depth + 1) for part in node.args])

    def _selection(self, name: str) -> Predicate:
        known = self._detections.detections
        if name not in known:
            self.faults.append(f"detection.condition: nothing is called `{name}`; {advice(name, known)}")
            return AllOf(())
        self.used.add(name)
        return self._detection(known[name], f"detection.{name}")

    def _detection(self, detection: SigmaDetection, where: str) -> Predicate:
        parts = [
            self._item(item, where) if isinstance(item, SigmaDetectionItem) else self._detection(item, where)
            for item in detection.detection_items
        ]
        return _joined(detection.item_linking, parts)

    def _item(self, item: SigmaDetectionItem, where: str) -> Predicate:
        field = item.field or ""
        modifiers = [reverse_modifier_mapping[modifier.__name__] for modifier in item.modifiers]
        where = "|".join((f"{where}.{field}", *modifiers))
        if fault := field_fault(field, self._kind):
            self.faults.append(f"{where}: {fault}")
            return AllOf(())
        parts: list[Predicate] = []
        for value in item.value:
            try:
                parts.append(_test(field, value, fields_of(self._kind).get(field), self._stored))
            except ValueError as error:
                self.faults.append(f"{where}: {error}")
        found = _joined(item.value_linking, parts)
        return Not(found) if item.negated else found


def _joined(linking: Any, parts: Sequence[Predicate]) -> Predicate:
    if linking is ConditionOR:
        parts = _merged(parts)
    if len(parts) == 1:
        return parts[0]
    return AnyOf(tuple(parts)) if linking is ConditionOR else AllOf(tuple(parts))


def _merged(parts: Sequence[Predicate]) -> list[Predicate]:
    """Return alternatives with those on equal values of one field as one test: lists of them are long."""
    merged: dict[Any, Predicate] = {}
    for part in parts:
        key: Any = (part.field, part.cased) if isinstance(part, Among) else part
        known = merged.get(key)
        if isinstance(part, Among) and isinstance(known, Among):
            part = Among(part.field, known.values + part.values, part.cased)
        merged[key] = part
    return [*merged.values()]


def _test(field: str, value: SigmaType, holds: FieldRule | None, stored: bool) -> Predicate:
    """Return the test of a field for one value.

    Parameters
    ----------
    holds
        What the field may hold; None: an attribute, which may hold any scalar.
    stored
        As `detectors.rules.ruleset.compiled`.

    Raises
    ------
    ValueError
        The field never holds such a value.
    """
    is_text = holds is None or holds.type == "string"
    is_number = holds is None or not is_text
    if isinstance(value, SigmaNull):
        return Missing(field)
    if isinstance(value, SigmaExists):
        return Not(Missing(field)) if value.exists else Missing(field)
    if isinstance(value, SigmaBool):
        if holds is not None:
            raise ValueError(f"found {value.boolean}, the field holds a {holds.type}; fix: put it in quotes")
        return Is(field, value.boolean)
    if isinstance(value, (SigmaNumber, SigmaCompareExpression)):
        if not is_number:
            raise ValueError("found a number, the field holds text; fix: put it in quotes")
        if isinstance(value, SigmaNumber):
            return Among(field, (value.number,))
        return Compared(field, value.op.name.lower(), value.number.number)  # type: ignore[arg-type]  # not NEQ
    if not is_text:
        raise ValueError("found text, the field holds a number; fix: write it without quotes")
    if isinstance(value, SigmaCIDRExpression):
        return Within(field, str(value.network))
    if isinstance(value, SigmaRegularExpression):
        return _expression(field, value)
    assert isinstance(value, SigmaString)
    return _text(field, value, holds, stored)


def _expression(field: str, value: SigmaRegularExpression) -> Predicate:
    flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    pattern = f"(?{flags}){value.regexp}" if flags else str(value.regexp)
    return Matches(field, pattern)


def _text(field: str, value: SigmaString, holds: FieldRule | None, stored: bool) -> Predicate:
    cased = isinstance(value, SigmaCasedString)
    parts = [part if cased or not isinstance(part, str) else part.lower() for part in value.s]
    if not value.contains_special():
        text = "".join(map(str, parts))
        if holds is not None and holds.choices and text not in holds.choices:
            raise ValueError(f"never {text!r}; {advice(text, holds.choices)}")
        if holds is not None and holds.address:
            text = _address(text, stored)
        return Among(field, (text,), cased)
    pattern = "".join(re.escape(part) if isinstance(part, str) else _WILDCARDS[part] for part in parts)
    return Matches(field, f"(?s)^{pattern}$", lowered=not cased)


def _address(text: str, stored: bool = False) -> str:
    """Return an address as events have it: in one spelling, whichever the rule has.

    >>> _address("2001:DB8:0:0::1")
    '2001:db8::1'
    """
    try:
        return ip_address(text)
    except ValueError:
        # No event has it, so it matches nothing; refusing it would stop a rule that has long alerted.
        if stored:
            return text
        fix = "did you mean `|cidr`?" if "/" in text else "fix: an IPv4 or IPv6 address"
        raise ValueError(f"never {text!r}, the field holds an address; {fix}") from None
