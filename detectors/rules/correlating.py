"""From a Sigma correlation, as pySigma reads it, to a window."""

from collections.abc import Iterator, Sequence
from typing import Final, cast

from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule

from detectors.rules.compiled import (
    MAX_EVENTS,
    MAX_SELECTIONS,
    MAX_TIMESPAN_S,
    MAX_VALUES,
    Window,
    WindowType,
)
from detectors.rules.faults import RuleError
from detectors.rules.fields import field_fault
from schemas.event import Kind

MAX_GROUP_BY: Final = 5
_MOST: Final[dict[WindowType, int]] = {"event_count": MAX_EVENTS, "value_count": MAX_VALUES}


def window_of(rule: SigmaCorrelationRule, kind: Kind, rules: int) -> Window:
    """Return what has to come together for a correlation.

    Parameters
    ----------
    kind
        Of the events.
    rules
        How many it refers to.

    Raises
    ------
    RuleError
        It cannot be evaluated on a stream, or never holds.
    """
    window_type = cast(WindowType, str(rule.type))
    condition = rule.condition
    assert isinstance(condition, SigmaCorrelationCondition)
    operator, field = condition.op.name.lower(), str(condition.fieldref or "")
    needed = int(condition.count) + (operator == "gt")
    faults = [*_group_faults(rule.group_by or [], kind)]
    if rule.timespan.seconds > MAX_TIMESPAN_S:
        faults.append(f"timespan: {rule.timespan.spec} is too long; fix: at most {MAX_TIMESPAN_S // 86_400}d")
    if window_type in _MOST:
        if operator == "eq":
            faults.append(
                f"condition.eq: not supported, one more event and it would not hold; fix: gte: {needed}"
            )
        most = _MOST[window_type]
    else:
        most = rules
        if rules < 2:
            faults.append("rules: needs two at least, or there is nothing to correlate")
        if (window_type == "temporal_ordered" or operator == "eq") and needed != rules:
            faults.append(f"condition: {operator} {condition.count} is not supported here; fix: gte: {rules}")
    if rules > MAX_SELECTIONS:
        faults.append(f"rules: {rules} of them; fix: at most {MAX_SELECTIONS}")
    if not 1 <= needed <= most:
        faults.append(f"condition: {operator} {condition.count} is out of range; fix: gte 1 to {most:,}")
    if field and window_type != "value_count":
        faults.append(f"condition.field: {window_type} counts no values; fix: value_count, or leave it out")
    elif field and (fault := field_fault(field, kind)):
        faults.append(f"condition.field: {fault}")
    if faults:
        raise RuleError(f"{rule.title}: correlation.{fault}" for fault in faults)
    return Window(window_type, 1000 * rule.timespan.seconds, needed, field)


def _group_faults(group_by: Sequence[str], kind: Kind) -> Iterator[str]:
    if len(group_by) > MAX_GROUP_BY:
        yield f"group-by: {len(group_by)} fields; fix: at most {MAX_GROUP_BY}"
    for field in dict.fromkeys(group_by):
        if group_by.count(field) > 1:
            yield f"group-by: {field} is there twice"
        if fault := field_fault(field, kind):
            yield f"group-by: {fault}"
