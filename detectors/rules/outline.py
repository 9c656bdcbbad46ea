"""What of Sigma a text may use, looked at before pySigma reads it: so that a fault has a place.

pySigma says what is wrong with a modifier, not where it stands; and it reads more than can be evaluated here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from detectors.rules.compiled import WindowType
from detectors.wording import advice, near
from schemas.columns import search
from schemas.event import KINDS

PRODUCT: Final = "tenantwatch"
ABOUT: Final = (
    "title", "id", "name", "taxonomy", "related", "status", "description", "license", "references", "author",
    "date", "modified", "fields", "falsepositives", "level", "tags", "scope",
)  # fmt: skip
# Keys of Sigma that mean something, which is not done here.
REFUSED: Final = {
    "action": "collections (`action`) are not supported; fix: write each rule out",
    "filter": "filters are not supported; fix: put `and not` into the rule's condition",
    "generate": "`generate` belongs under `correlation`",
}
_LOGSOURCE: Final = ("product", "category", "service", "definition")
_CORRELATION: Final = ("type", "rules", "group-by", "timespan", "condition", "generate")
_BOUNDS: Final = ("gt", "gte", "eq")
_MET_AT_ONCE: Final = ("lt", "lte", "neq")
_TEXT: Final = ("contains", "startswith", "endswith", "cased", "re", "cidr")
_NUMBER: Final = ("gt", "gte", "lt", "lte")
_FLAGS: Final = ("i", "ignorecase", "m", "multiline", "s", "dotall")
MODIFIERS: Final = (*_TEXT, *_NUMBER, *_FLAGS, "exists", "all", "neq")
_PIPE: Final = re.compile(r"\|\s*(\w+)")


def faults_of(document: Mapping[Any, Any]) -> Iterator[str]:
    """Yield what is wrong with the outline of a rule.

    >>> [*faults_of({"title": "T", "levle": "high", "detection": {"condition": "a | near b"}})][0]
    'levle: no such key; did you mean `level`?'
    """
    is_correlation = "correlation" in document
    known = (*ABOUT, *(("correlation",) if is_correlation else ("logsource", "detection")))
    for key in map(str, document):
        if key in REFUSED:
            yield f"{key}: {REFUSED[key]}"
        # Keys that Sigma does not know are its authors' own; but not if they are nearly one that it knows.
        elif key not in known and (meant := near(key, known)):
            yield f"{key}: no such key; did you mean `{meant}`?"
    if not str(document.get("title") or "").strip():
        yield "title: missing; fix: say in a line what the rule finds"
    if document.get("taxonomy", PRODUCT) != PRODUCT:
        found = document["taxonomy"]
        yield f"taxonomy: {found!r} is not supported; fix: leave it out, and use the contract's fields"
    if is_correlation:
        yield from _correlation(document["correlation"])
    else:
        yield from _logsource(document.get("logsource"))
        yield from _detection(document.get("detection"))


def _logsource(logsource: Any) -> Iterator[str]:
    if not isinstance(logsource, dict):
        yield f"logsource: missing; fix: {{product: {PRODUCT}, category: auth}}"
        return
    for key in logsource:
        if key not in _LOGSOURCE:
            yield f"logsource.{key}: no such key; {advice(str(key), _LOGSOURCE)}"
    if logsource.get("product") != PRODUCT:
        yield f"logsource.product: {logsource.get('product')!r} is not supported; fix: product: {PRODUCT}"
    if logsource.get("category") not in KINDS:
        found = logsource.get("category")
        yield f"logsource.category: {found!r} is no kind of event; fix: one of {', '.join(KINDS)}"
    if not isinstance(logsource.get("service", ""), str):
        yield f"logsource.service: is {logsource['service']!r}; fix: the name of one service, as text"


def _detection(detection: Any) -> Iterator[str]:
    if not isinstance(detection, dict):
        yield "detection: missing; fix: a selection, and `condition: selection`"
        return
    for name, definition in detection.items():
        if name == "condition":
            yield from _condition(definition)
        elif name == "timeframe":
            yield "detection.timeframe: not supported; fix: a `correlation` with a `timespan`"
        elif not isinstance(name, str):
            yield f"detection.{name}: is no name; fix: put it in quotes"
        else:
            yield from _selection(definition, f"detection.{name}")
    if "condition" not in detection:
        yield "detection.condition: missing; fix: condition: selection"


def _condition(condition: Any) -> Iterator[str]:
    where = "detection.condition"
    if not isinstance(condition, str):
        yield f"{where}: {type(condition).__name__} is not supported; fix: one condition, as text"
    elif pipe := _PIPE.search(condition):
        fix = "temporal" if pipe[1] == "near" else "event_count or value_count"
        yield f"{where}: `| {pipe[1]}` is not supported; fix: a `correlation` of the type {fix}"


def _selection(definition: Any, where: str) -> Iterator[str]:
    maps = definition if isinstance(definition, list) else [definition]
    if not maps or not all(isinstance(entry, dict) and entry for entry in maps):
        yield f"{where}: keywords without a field are not supported; fix: name a field for each value"
        return
    for entry in maps:
        for key, value in entry.items():
            yield from _item(key, value, f"{where}.{key}")


def _item(key: Any, value: Any, where: str) -> Iterator[str]:
    field, *modifiers = str(key).split("|")
    if not isinstance(key, str) or not field:
        yield f"{where}: keywords without a field are not supported; fix: name the field before the |"
    for modifier in modifiers:
        if modifier not in MODIFIERS:
            yield f"{where}: the modifier `{modifier}` is not supported; {advice(modifier, MODIFIERS)}"
    if "re" in modifiers and (others := {*modifiers} & {"contains", "startswith", "endswith"}):
        yield f"{where}: `re` with `{min(others)}` is not supported; fix: anchor the expression with ^ and $"
    values = value if isinstance(value, list) else [value]
    if not values:
        yield f"{where}: no values; fix: give at least one"
    for one in values:
        yield from _value(one, modifiers, where)


def _value(value: Any, modifiers: list[str], where: str) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        yield f"{where}: a {type(value).__name__} is no value; fix: give texts, numbers, true, false or null"
    elif not isinstance(value, str) and {*modifiers} & {*_TEXT}:
        yield f"{where}: found {value!r}, needs a text; fix: put it in quotes"
    elif "re" in modifiers and (fault := _expression_fault(value)):
        yield f"{where}: {fault}"
    elif {*modifiers} & {*_NUMBER} and (isinstance(value, bool) or not isinstance(value, (int, float))):
        yield f"{where}: found {value!r}, needs a number; fix: write it without quotes"
    elif "exists" in modifiers and not isinstance(value, bool):
        yield f"{where}: found {value!r}; fix: true or false"


def _expression_fault(pattern: str) -> str | None:
    # By the engine that will use it; pySigma's own is another build of it, and complains on standard error.
    try:
        search([""], pattern)
    except ValueError as error:
        return f"{error}; fix: RE2 has neither look-around nor back-references"
    return None


def _correlation(correlation: Any) -> Iterator[str]:
    if not isinstance(correlation, dict):
        yield "correlation: is no mapping; fix: give type, rules, group-by, timespan and condition"
        return
    types = get_args(WindowType)
    for key in map(str, correlation):
        if key == "aliases":
            yield "correlation.aliases: not supported; fix: group by a field that all rules have"
        elif key not in _CORRELATION:
            yield f"correlation.{key}: no such key; {advice(key, _CORRELATION)}"
    if (found := correlation.get("type")) not in types:
        yield f"correlation.type: {found!r} is not supported; fix: one of {', '.join(types)}"
    rules = correlation.get("rules")
    names = rules if isinstance(rules, list) else [rules]
    if not names or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        yield f"correlation.rules: found {rules!r}; fix: different names, or ids, of rules in the same text"
    condition = correlation.get("condition")
    if condition is not None and not isinstance(condition, dict):
        yield "correlation.condition: a condition in words is not supported; fix: a bound, such as gte: 2"
    elif condition is not None:
        yield from _bounds(condition)


def _bounds(condition: dict[Any, Any]) -> Iterator[str]:
    bounds = 0
    for key, value in condition.items():
        where = f"correlation.condition.{key}"
        if key in _MET_AT_ONCE:
            yield f"{where}: not supported, it would alert at the first event of every group; fix: gte"
        elif key in _BOUNDS:
            bounds += 1
            if isinstance(value, bool) or not isinstance(value, int):
                yield f"{where}: found {value!r}; fix: a whole number"
        elif key != "field":
            yield f"{where}: not supported; {advice(str(key), (*_BOUNDS, 'field'))}"
        elif not isinstance(value, str):
            yield f"{where}: {type(value).__name__} is not supported; fix: one field"
    if bounds > 1:
        yield "correlation.condition: a range is not supported; fix: one of gt and gte"
